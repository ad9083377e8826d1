"""Searches and the schedules they found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from iosfarm.db import tables
from iosfarm.db.errors import DatabaseError
from iosfarm.db.measurements import device_row, environment_row
from iosfarm.db.queries import device_is
from iosfarm.ir.device import Device, Environment, canonical_json


class SearchState(StrEnum):
    """How far a search is. One that was killed stays `running`."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # by its budget or by the user; its best schedules are valid
    FAILED = "failed"


@dataclass(frozen=True)
class SearchRow:
    """One search. `counts` is empty until it ends."""

    id: int
    model: str
    settings: Mapping[str, Any]
    state: SearchState
    started_at: datetime
    finished_at: datetime | None
    counts: Mapping[str, Any]


@dataclass(frozen=True)
class ScheduledStageRow:
    """One stage of a schedule. predicted: seconds. measurement_id: what the prediction rests on, if anything."""

    position: int
    part: int
    stage_key: str
    strategy: str
    predicted: float | None
    measurement_id: int | None = None


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule. Latencies in seconds; `document` is the schedule file's JSON text."""

    id: int
    search_id: int | None
    model: str
    graph_hash: str
    batch: int
    dtype: str
    device: str
    device_kind: str
    simulated: bool
    predicted: float | None
    measured: float | None
    lower_bound: float | None
    created_at: datetime
    document: str
    stages: tuple[ScheduledStageRow, ...]


def start(connection: Connection, model: str, settings: Mapping[str, Any]) -> int:
    """See `LatencyDatabase.start_search`."""
    values = {
        "model": model,
        "settings": canonical_json(dict(settings)),
        "state": SearchState.RUNNING.value,
        "started_at": datetime.now(UTC),
    }
    statement = insert(tables.search).returning(tables.search.c.id)
    return int(connection.execute(statement, values).scalar_one())


def finish(connection: Connection, number: int, state: SearchState, counts: Mapping[str, Any], name: str) -> None:
    """See `LatencyDatabase.finish_search`."""
    columns = tables.search.c
    statement = (
        update(tables.search)
        .where(columns.id == number, columns.state == SearchState.RUNNING.value)
        .values(state=state.value, finished_at=datetime.now(UTC), counts=canonical_json(dict(counts)))
    )
    if connection.execute(statement).rowcount != 1:
        state_now = connection.scalar(select(columns.state).where(columns.id == number))
        what = f"search {number} is {state_now} already" if state_now else f"there is no search {number}"
        raise DatabaseError(what, where=name)


def searches(connection: Connection, model: str | None, limit: int | None) -> list[SearchRow]:
    """See `LatencyDatabase.searches`."""
    statement = select(tables.search).order_by(tables.search.c.id.desc()).limit(limit)
    if model is not None:
        statement = statement.where(tables.search.c.model == model)
    return [
        SearchRow(
            id=row.id,
            model=row.model,
            settings=json.loads(row.settings),
            state=SearchState(row.state),
            started_at=row.started_at,
            finished_at=row.finished_at,
            counts=json.loads(row.counts) if row.counts else {},
        )
        for row in connection.execute(statement)
    ]


def record_schedule(
    connection: Connection,
    values: Mapping[str, Any],
    device: Device,
    environment: Environment,
    stages: Sequence[ScheduledStageRow],
) -> int:
    """See `LatencyDatabase.record_schedule`; `values` are the columns that do not refer to other rows."""
    row = {
        **values,
        "device_id": device_row(connection, device),
        "environment_id": environment_row(connection, environment),
        "created_at": datetime.now(UTC),
    }
    statement = insert(tables.schedule).returning(tables.schedule.c.id)
    number: int = connection.execute(statement, row).scalar_one()
    if stages:
        rows = [{"schedule_id": number, **vars(stage)} for stage in stages]
        connection.execute(insert(tables.schedule_stage), rows)
    return number


def schedules(
    connection: Connection, filters: Mapping[str, Any], on: str | Device | None, limit: int | None
) -> list[ScheduleRow]:
    """See `LatencyDatabase.schedules`; `filters` maps columns of `schedule` or `device` to wanted values."""
    schedule, device, part = tables.schedule, tables.device, tables.schedule_stage
    statement = (
        select(schedule, device.c.model.label("device"), device.c.kind, device.c.simulated)
        .join(device, device.c.id == schedule.c.device_id)
        .order_by(schedule.c.id.desc())
        .limit(limit)
    )
    for column, value in filters.items():
        if value is not None:
            statement = statement.where((device if column == "simulated" else schedule).c[column] == value)
    if on is not None:
        statement = statement.where(device_is(on))
    found = connection.execute(statement).all()
    stages: dict[int, list[ScheduledStageRow]] = {row.id: [] for row in found}
    for number in stages:
        rows = connection.execute(select(part).where(part.c.schedule_id == number).order_by(part.c.position))
        stages[number] = [ScheduledStageRow(*row[1:]) for row in rows]
    names = [n for n in ScheduleRow.__dataclass_fields__ if n not in ("device_kind", "stages")]
    return [
        ScheduleRow(**{n: getattr(row, n) for n in names}, device_kind=row.kind, stages=tuple(stages[row.id]))
        for row in found
    ]
