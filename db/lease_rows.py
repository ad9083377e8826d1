"""Rows of `lease`: one for each stage that somebody is about to measure on a kind of device in an environment.

A row belongs to its owner until the time that it tells, by the database's clock, which all clients share. Each change
is one statement for all rows, and locks them in the order of their keys, so that two clients never wait in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, CursorResult, delete, func, literal, or_, select, text, tuple_, update

from iosfarm.db import tables
from iosfarm.db.connection.dialect import DatabaseClock, texts, upsert
from iosfarm.ir.device import Device, Environment

_lease = tables.lease.c
_KEY = (_lease.stage_key, _lease.device_key, _lease.environment_key)


def take_leases(
    connection: Connection, keys: Iterable[str], device: Device, environment: Environment, owner: str, seconds: float
) -> set[str]:
    """Takes every lease that is free, expired or the owner's own already; returns the stage keys of those."""
    wanted = texts(connection, sorted(keys))
    rows = select(
        wanted.label("stage_key"),
        literal(device.key),
        literal(environment.hard_key),
        literal(owner),
        DatabaseClock() + seconds,
    )
    # The condition is SQLite's grammar's: without one, ON would be taken for that of a join.
    insert = upsert(connection, tables.lease).from_select(
        [*(c.name for c in _KEY), "owner", "expires"], rows.where(text("1 = 1"))
    )
    taken = insert.on_conflict_do_update(
        index_elements=list(_KEY),
        set_={"owner": insert.excluded.owner, "expires": insert.excluded.expires},
        # Judged on the row as it is once whoever changes it is done, not as it was when the statement began.
        where=or_(_lease.owner == owner, _lease.expires < DatabaseClock()),
    ).returning(_lease.stage_key)
    return set(connection.scalars(taken))


def end_leases(
    connection: Connection, keys: Iterable[str], device: Device, environment: Environment, owner: str
) -> int:
    """Ends the owner's leases of these stages; returns how many there were."""
    mine = (
        _lease.stage_key.in_(select(texts(connection, sorted(keys)))),
        _lease.device_key == device.key,
        _lease.environment_key == environment.hard_key,
        _lease.owner == owner,
    )
    return _count(connection.execute(delete(tables.lease).where(_locked(*mine))))


def end_all_leases(connection: Connection, owner: str) -> int:
    """Ends all leases of an owner; returns how many there were."""
    return _count(connection.execute(delete(tables.lease).where(_locked(_lease.owner == owner))))


def renew_leases(connection: Connection, owner: str, seconds: float) -> int:
    """Renews all leases of an owner; returns how many there are."""
    renewed = update(tables.lease).where(_locked(_lease.owner == owner)).values(expires=DatabaseClock() + seconds)
    return _count(connection.execute(renewed))


def delete_expired(connection: Connection) -> int:
    """Deletes leases that nobody holds any more; returns how many there were."""
    return _count(connection.execute(delete(tables.lease).where(_locked(_lease.expires < DatabaseClock()))))


def lease_owners(connection: Connection) -> list[str]:
    """Who holds leases, in order."""
    return list(connection.scalars(select(_lease.owner).distinct().order_by(_lease.owner)))


def count_leases(connection: Connection) -> dict[str, int]:
    """How many leases are `held`, and how many `expired`; without those of which there are none."""
    held = _lease.expires >= DatabaseClock()
    rows = connection.execute(select(held.label("held"), func.count()).group_by(held))
    return {"held" if row[0] else "expired": row[1] for row in rows}


def _locked(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """The rows that meet all conditions, locked in the order of their keys where a database locks rows."""
    rows = select(*_KEY).where(*conditions).order_by(*_KEY).with_for_update()
    return tuple_(*_KEY).in_(rows)


def _count(result: Any) -> int:
    return cast("CursorResult[Any]", result).rowcount
