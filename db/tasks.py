"""Stages waiting to be measured, handed out under leases to whoever measures next.

Staleness is judged by the database's clock, which all clients share. A claim is an UPDATE that only a free task
matches, and writes owner and first lease at once: a claim without a heartbeat cannot exist, and of two that race
one finds no row left. Tasks are locked in the order of their ids, so that two clients never wait in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from iosfarm.db import tables
from iosfarm.db.dialect import DatabaseClock, insert_or_ignore
from iosfarm.db.measurements import stage_rows
from iosfarm.ir.summary import StageSummary

FREE, CLAIMED, DONE, FAILED = "free", "claimed", "done", "failed"
UNCLAIMED: dict[str, Any] = {"state": FREE, "owner": None, "lease_expires": None}
_task = tables.task.c


@dataclass(frozen=True)
class ClaimedTask:
    """A stage to measure. `canonical` is the JSON text to rebuild it from; `attempt` counts claims, from 1."""

    id: int
    stage_key: str
    canonical: str
    device_key: str
    search_id: int | None
    attempt: int


def add(connection: Connection, stages: Sequence[StageSummary], device_key: str, search_id: int | None) -> list[int]:
    """See `LatencyDatabase.add_tasks`."""
    ids = stage_rows(connection, stages)
    statement = insert_or_ignore(connection, tables.task).returning(_task.id)
    shared = {"device_key": device_key, "search_id": search_id, "state": FREE, "attempts": 0}
    rows = [{"stage_id": number, **shared} for number in sorted(set(ids.values()))]
    return sorted(connection.scalars(statement, rows)) if rows else []


def free_expired(connection: Connection) -> int:
    """Frees tasks whose owner let the lease expire. Returns how many."""
    expired = (_task.state == CLAIMED, _task.lease_expires < DatabaseClock())
    stale = connection.scalars(select(_task.id).where(*expired).order_by(_task.id)).all()
    return sum(_change(connection, number, expired, UNCLAIMED) for number in stale)


def claim(
    connection: Connection, owner: str, n: int, lease_seconds: float, device_key: str | None
) -> list[ClaimedTask]:
    """See `LatencyDatabase.claim`."""
    wanted = [_task.state == FREE]
    if device_key is not None:
        wanted.append(_task.device_key == device_key)
    lease = {
        "state": CLAIMED,
        "owner": owner,
        "lease_expires": lease_end(lease_seconds),
        "attempts": _task.attempts + 1,
    }
    claimed: list[int] = []
    seen = 0
    while len(claimed) < n:
        candidates = connection.scalars(
            select(_task.id).where(*wanted, _task.id > seen).order_by(_task.id).limit(n - len(claimed))
        ).all()
        if not candidates:
            break
        seen = candidates[-1]
        claimed += [number for number in candidates if _change(connection, number, wanted, lease)]
    stage = tables.stage.c
    rows = connection.execute(
        select(_task.id, stage.key, stage.canonical, _task.device_key, _task.search_id, _task.attempts)
        .join_from(tables.task, tables.stage)
        .where(_task.id.in_(claimed))
        .order_by(_task.id)
    )
    return [ClaimedTask(*row) for row in rows]


def update_owned(connection: Connection, ids: Iterable[int], owner: str, values: dict[str, Any]) -> list[int]:
    """Changes those of `ids` that `owner` still holds, and returns them."""
    owned = (_task.state == CLAIMED, _task.owner == owner)
    return [number for number in sorted(set(ids)) if _change(connection, number, owned, values)]


def lease_end(lease_seconds: float) -> ColumnElement[float]:
    """When a lease that begins now expires."""
    return DatabaseClock() + lease_seconds


def _change(
    connection: Connection, number: int, condition: Iterable[ColumnElement[bool]], values: dict[str, Any]
) -> bool:
    statement = update(tables.task).where(_task.id == number, *condition).values(values)
    return connection.execute(statement).rowcount == 1
