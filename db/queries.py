"""Questions about what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, func, or_, select

from iosfarm.db import tables
from iosfarm.ir.device import Device
from iosfarm.ir.errors import UsageError
from iosfarm.ir.summary import OperatorSummary


@dataclass(frozen=True)
class QueryRow:
    """One measurement and what was measured. Latencies in seconds, None where there are no samples.

    device: model name. simulated: an analytic model said so, nothing was measured. operators: in the stage's order.
    """

    id: int
    stage_key: str
    device: str
    device_kind: str
    simulated: bool
    environment_key: str
    status: str
    reason: str
    strategy: str
    dtype: str
    layout: str
    batch: int
    groups: int
    units: int
    flops: int
    bytes_moved: int
    operators: tuple[OperatorSummary, ...]
    median: float | None
    mad: float | None
    minimum: float | None
    p90: float | None
    n: int
    worker: str
    attempt: int
    measured_at: datetime
    search_id: int | None


CHUNK = 1000
"""Bound parameters in one statement: SQLite allows 32 766, PostgreSQL 65 535."""

_m, _s, _d, _e = tables.measurement.c, tables.stage.c, tables.device.c, tables.environment.c
_operator = tables.stage_operator.c

_COLUMNS: dict[str, Column[Any]] = {
    "id": _m.id,
    "stage_key": _s.key,
    "device": _d.model,
    "device_kind": _d.kind,
    "simulated": _d.simulated,
    "environment_key": _e.key,
    "status": _m.status,
    "reason": _m.reason,
    "strategy": _s.strategy,
    "dtype": _s.dtype,
    "layout": _s.layout,
    "batch": _s.batch,
    "groups": _s.groups,
    "units": _s.units,
    "flops": _s.flops,
    "bytes_moved": _s.bytes_moved,
    "median": _m.median,
    "mad": _m.mad,
    "minimum": _m.min,
    "p90": _m.p90,
    "n": _m.n,
    "worker": _m.worker,
    "attempt": _m.attempt,
    "measured_at": _m.measured_at,
    "search_id": _m.search_id,
}

ORDERS = tuple(name for name in _COLUMNS if name not in ("reason", "worker"))
"""What a query can be ordered by."""


def device_is(device: str | Device) -> ColumnElement[bool]:
    """A device by key, or by its model's name, its kind or its key as text, upper or lower case."""
    if isinstance(device, Device):
        return _d.key == device.key
    text = device.lower()
    return or_(func.lower(_d.model) == text, func.lower(_d.kind) == text, _d.key == text)


def query(
    connection: Connection,
    *,
    equal: Mapping[str, Any],
    operator: Mapping[str, Any],
    device: str | Device | None,
    environment_hard_key: str | None,
    model: str | None,
    order_by: str,
    descending: bool,
    limit: int | None,
) -> list[QueryRow]:
    """See `LatencyDatabase.query`. `equal` and `operator` map columns to wanted values; None wants all."""
    if order_by not in ORDERS:
        raise UsageError(f"cannot order by {order_by!r}", hint=f"choose one of {', '.join(ORDERS)}")
    if limit is not None and limit < 0:
        raise UsageError(f"a limit of {limit} rows", hint="give 0 or more")
    statement = (
        select(*(column.label(name) for name, column in _COLUMNS.items()), _s.id.label("stage_id"))
        .join_from(tables.measurement, tables.stage)
        .join(tables.device)
        .join(tables.environment)
        .where(*(_COLUMNS[name] == value for name, value in equal.items() if value is not None))
    )
    wanted = [_operator[name] == value for name, value in operator.items() if value is not None]
    if wanted:
        # One operator meets all conditions, not each condition some operator. IN, not EXISTS: SQLite would search
        # the operators anew for every measurement, through an index that most of them match.
        statement = statement.where(_s.id.in_(select(_operator.stage_id).where(*wanted)))
    if device is not None:
        statement = statement.where(device_is(device))
    if environment_hard_key is not None:
        statement = statement.where(_e.hard_key == environment_hard_key)
    if model is not None:
        statement = statement.where(_of_model(model))
    column = _COLUMNS[order_by]
    first = column.desc() if descending else column.asc()
    statement = statement.order_by(first.nulls_last() if column.nullable else first)
    if order_by != "id":
        statement = statement.order_by(_m.id.desc() if descending else _m.id.asc())
    found = connection.execute(statement.limit(limit)).all()
    operators = _operators(connection, sorted({row.stage_id for row in found}))
    return [
        QueryRow(**{name: getattr(row, name) for name in _COLUMNS}, operators=tuple(operators[row.stage_id]))
        for row in found
    ]


def _of_model(model: str) -> ColumnElement[bool]:
    """Measured in a search of the model, or on a schedule of the model that reused it."""
    search, schedule, part = tables.search.c, tables.schedule.c, tables.schedule_stage.c
    searched = select(search.id).where(search.model == model)
    scheduled = select(part.stage_key).join_from(tables.schedule_stage, tables.schedule)
    return or_(_m.search_id.in_(searched), _s.key.in_(scheduled.where(schedule.model == model)))


def _operators(connection: Connection, stage_ids: list[int]) -> dict[int, list[OperatorSummary]]:
    found: dict[int, list[OperatorSummary]] = {number: [] for number in stage_ids}
    columns = [_operator[f.name] for f in fields(OperatorSummary)]
    for start in range(0, len(stage_ids), CHUNK):
        chunk = stage_ids[start : start + CHUNK]
        statement = select(_operator.stage_id, *columns).where(_operator.stage_id.in_(chunk))
        for number, *values in connection.execute(statement.order_by(_operator.stage_id, _operator.position)):
            found[number].append(OperatorSummary(*values))
    return found
