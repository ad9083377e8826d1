"""Looking measurements up and recording them: what a search does thousands of times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, insert, select

from iosfarm.db import tables
from iosfarm.db.dialect import insert_or_ignore
from iosfarm.db.errors import DatabaseError
from iosfarm.ir.device import Device, Environment, Fact, canonical_json
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.summary import StageSummary

_Item = TypeVar("_Item")

USABLE = (Status.OK, Status.INFEASIBLE)
"""What a look-up may answer with: verdicts about the stage, not accidents of the infrastructure."""

CHUNK = 1000
"""Bound parameters in one statement: SQLite allows 32 766, PostgreSQL 65 535."""


@dataclass(frozen=True)
class Recorded:
    """A measurement from the database.

    soft_differences: soft environment fields that differ: name -> (asked for, recorded). Empty where none does.
    """

    id: int
    measurement: Measurement
    soft_differences: Mapping[str, tuple[Fact | None, Fact | None]] = field(default_factory=dict)


def chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """`items` in pieces of `CHUNK`."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def lookup(
    connection: Connection, keys: Iterable[str], device: Device, environment: Environment, name: str
) -> dict[str, Recorded]:
    """See `LatencyDatabase.lookup`."""
    devices = connection.scalars(select(tables.device.c.id).where(tables.device.c.key == device.key)).all()
    known = tables.environment
    differences = {
        row.id: environment.soft_differences(Environment(json.loads(row.hard), json.loads(row.soft)))
        for row in connection.execute(select(known).where(known.c.hard_key == environment.hard_key))
    }
    if not devices or not differences:
        return {}
    measurement, stage = tables.measurement, tables.stage
    newest: dict[str, Row[Any]] = {}
    for chunk in chunks(list(dict.fromkeys(keys))):
        statement = (
            select(stage.c.key, measurement)
            .join_from(stage, measurement, measurement.c.stage_id == stage.c.id)
            .where(
                stage.c.key.in_(chunk),
                measurement.c.device_id.in_(devices),
                measurement.c.environment_id.in_(differences),
                measurement.c.status.in_(USABLE),
            )
        )
        # Not ordered by the database: SQLite would walk through all measurements in the order of their times.
        for row in connection.execute(statement):
            best = newest.get(row.key)
            if best is None or (row.measured_at, row.id) > (best.measured_at, best.id):
                newest[row.key] = row
    return {
        key: Recorded(row.id, decode(row, key, name), differences[row.environment_id]) for key, row in newest.items()
    }


def decode(row: Row[Any], key: str, name: str) -> Measurement:
    """The measurement of a row of `measurement`.

    Raises:
        DatabaseError: the row was not written by iosfarm, or was damaged.
    """
    try:
        return Measurement(
            stage_key=key,
            status=Status(row.status),
            samples=tuple(json.loads(row.samples)),
            unroll=row.unroll,
            rounds=row.rounds,
            reason=row.reason,
            worker=row.worker,
            attempt=row.attempt,
            measured_at=row.measured_at,
            conditions=json.loads(row.conditions),
        )
    except (TypeError, ValueError) as error:
        raise DatabaseError(f"measurement {row.id} is damaged: {error}", where=name) from error


def encode(measurement: Measurement) -> dict[str, Any]:
    """The columns of a measurement that do not refer to other rows.

    Raises:
        ValueError: a sample or condition is not finite, or the time has no time zone.
    """
    if measurement.measured_at.tzinfo is None:
        raise ValueError(f"stage {measurement.stage_key}: measured_at has no time zone")
    try:
        samples = json.dumps(measurement.samples, separators=(",", ":"), allow_nan=False)
        conditions = canonical_json(dict(measurement.conditions))
    except ValueError as error:
        raise ValueError(f"stage {measurement.stage_key}: {error}") from error
    measured = bool(measurement.samples)
    return {
        "status": measurement.status.value,
        "reason": _storable(measurement.reason),
        "median": measurement.median if measured else None,
        "mad": measurement.mad if measured else None,
        "min": measurement.minimum if measured else None,
        "p90": measurement.p90 if measured else None,
        "n": len(measurement.samples),
        "samples": samples,
        "unroll": measurement.unroll,
        "rounds": measurement.rounds,
        "worker": _storable(measurement.worker),
        "attempt": measurement.attempt,
        "measured_at": measurement.measured_at,
        "conditions": conditions,
    }


def record(
    connection: Connection,
    items: Sequence[tuple[StageSummary, dict[str, Any]]],
    device: Device,
    environment: Environment,
    search_id: int | None,
) -> list[int]:
    """See `LatencyDatabase.record`; `items` are encoded already."""
    device_id = device_row(connection, device)
    environment_id = environment_row(connection, environment)
    stages = stage_rows(connection, [summary for summary, _ in items])
    shared = {"device_id": device_id, "environment_id": environment_id, "search_id": search_id}
    rows = [{"stage_id": stages[summary.key], **shared, **columns} for summary, columns in items]
    statement = insert(tables.measurement).returning(tables.measurement.c.id, sort_by_parameter_order=True)
    return list(connection.scalars(statement, rows))


def device_row(connection: Connection, device: Device) -> int:
    """Id of the device's row, inserted if missing."""
    columns = tables.device.c
    values = {
        "key": device.key,
        "kind": device.kind,
        "model": device.model,
        "simulated": device.simulated,
        "properties": canonical_json(dict(device.properties)),
        "instance": canonical_json(dict(device.instance)),
    }
    find = select(columns.id).where(columns.key == values["key"], columns.instance == values["instance"])
    found: int | None = connection.scalar(find)
    if found is None:
        connection.execute(insert_or_ignore(connection, tables.device), values)
        found = connection.execute(find).scalar_one()
    return found


def environment_row(connection: Connection, environment: Environment) -> int:
    """Id of the environment's row, inserted if missing."""
    columns = tables.environment.c
    find = select(columns.id).where(columns.key == environment.key)
    found: int | None = connection.scalar(find)
    if found is None:
        values = {
            "key": environment.key,
            "hard_key": environment.hard_key,
            "hard": canonical_json(dict(environment.hard)),
            "soft": canonical_json(dict(environment.soft)),
        }
        connection.execute(insert_or_ignore(connection, tables.environment), values)
        found = connection.execute(find).scalar_one()
    return found


def stage_rows(connection: Connection, summaries: Iterable[StageSummary]) -> dict[str, int]:
    """Ids of the stages' rows by key, inserted with their operators where missing."""
    wanted = {summary.key: summary for summary in summaries}
    ids = _stage_ids(connection, list(wanted))
    # In one order everywhere: two processes that insert the same rows wait for each other, and never in a circle.
    missing = sorted(wanted.keys() - ids.keys())
    if not missing:
        return ids
    columns = tables.stage.c
    statement = insert_or_ignore(connection, tables.stage).returning(columns.id, columns.key)
    rows = [_stage_columns(wanted[key]) for key in missing]
    inserted = {row.key: row.id for row in connection.execute(statement, rows)}
    operators = [
        {"stage_id": number, "position": position, **vars(operator)}
        for key, number in inserted.items()
        for position, operator in enumerate(wanted[key].operators)
    ]
    if operators:
        connection.execute(insert(tables.stage_operator), operators)
    # What another process inserted in the meantime is there, but was not inserted here.
    return ids | inserted | _stage_ids(connection, [key for key in missing if key not in inserted])


def _stage_ids(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    columns = tables.stage.c
    found: dict[str, int] = {}
    for chunk in chunks(keys):
        rows = connection.execute(select(columns.key, columns.id).where(columns.key.in_(chunk)))
        found.update((row.key, row.id) for row in rows)
    return found


def _stage_columns(summary: StageSummary) -> dict[str, Any]:
    return {name: value for name, value in vars(summary).items() if name != "operators"}


def _storable(text: str) -> str:
    """PostgreSQL refuses NUL, and UTF-8 lone surrogates; a worker's last words may hold either."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
