"""Stages that two devices have both measured, and what class of operators a stage is of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, exists, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import aliased

from iosfarm.db import tables
from iosfarm.db.connection.dialect import texts
from iosfarm.db.errors import DatabaseError
from iosfarm.db.query.filters import device_is
from iosfarm.db.query.queries import stage_operators
from iosfarm.ir.device import Device
from iosfarm.ir.measurement import Status
from iosfarm.ir.summary import OperatorSummary

MOST_STAGES = 20_000
"""Stages that a comparison rests on at most, those measured last: more would not make it better."""

_m, _s, _d, _e = tables.measurement.c, tables.stage.c, tables.device.c, tables.environment.c


@dataclass(frozen=True)
class Place:
    """A kind of device in an environment: what a measurement can be reused for."""

    device_key: str
    model: str
    simulated: bool
    hard_key: str


@dataclass(frozen=True)
class Known:
    """The median of a stage in a place, in seconds, of the measurement to rely on."""

    median: float
    n: int
    id: int


def stage_class(strategy: str, groups: int, units: int, operators: Sequence[OperatorSummary]) -> str:
    """`conv2d 3x3` for a single unit, by the first of its operators with a kernel; else the strategy and its size."""
    if strategy == "merge":
        return f"merge of {units}"
    if units > 1:
        return f"{groups} groups" if groups > 1 else f"1 group of {units}"
    main = next((o for o in operators if o.kernel_height is not None), operators[0] if operators else None)
    if main is None:
        return "nothing"
    return main.kind if main.kernel_height is None else f"{main.kind} {main.kernel_height}x{main.kernel_width}"


def stage_classes(connection: Connection, stage_ids: Iterable[int]) -> dict[int, str]:
    """The classes of stages, by their numbers."""
    numbers = set(stage_ids)
    operators = stage_operators(connection, numbers)
    wanted = sql_cast(texts(connection, list(map(str, numbers))), tables.BigId)
    rows = connection.execute(select(_s.id, _s.strategy, _s.groups, _s.units).where(_s.id == wanted))
    return {row.id: stage_class(row.strategy, row.groups, row.units, operators[row.id]) for row in rows}


def device_keys(connection: Connection, device: str | Device, name: str) -> str:
    """The key of the one kind of device that is meant.

    Raises:
        DatabaseError: there is none, or there are several.
    """
    rows = connection.execute(select(_d.key, _d.model, _d.properties).distinct().where(device_is(device))).all()
    if len(rows) == 1:
        return str(rows[0].key)
    asked = device.model if isinstance(device, Device) else device
    if not rows:
        raise DatabaseError(f"no device {asked!r}", where=name, hint="`iosfarm db stats` lists those that measured")
    kinds = "; ".join(f"{row.key[:12]}… ({row.model} {row.properties})" for row in rows[:5])
    raise DatabaseError(f"{len(rows)} kinds of device are called {asked!r}: {kinds}", where=name, hint="name one's key")


def stages_measured(
    connection: Connection, condition: Sequence[ColumnElement[bool]], elsewhere: Sequence[int] | None = None
) -> list[int]:
    """Stages with an `ok` measurement that meets a condition, those measured last; elsewhere: that these devices
    measured, too.
    """
    newest = select(_m.stage_id).where(_m.status == Status.OK.value, *condition)
    if elsewhere is not None:
        other = aliased(tables.measurement).c
        newest = newest.where(
            exists().where(
                other.stage_id == _m.stage_id, other.device_id.in_(elsewhere), other.status == Status.OK.value
            )
        )
    newest = newest.order_by(_m.measured_at.desc()).limit(MOST_STAGES)
    return list(dict.fromkeys(connection.scalars(newest)))


def medians(connection: Connection, stage_ids: Iterable[int]) -> dict[Place, dict[int, Known]]:
    """What is known of stages, by place and stage: of several measurements the one with the most samples, of those the
    newest.
    """
    wanted = sql_cast(texts(connection, [str(number) for number in stage_ids]), tables.BigId)
    devices = {row.id: row for row in connection.execute(select(_d.id, _d.key, _d.model, _d.simulated))}
    environments = {row.id: row.hard_key for row in connection.execute(select(_e.id, _e.hard_key))}
    statement = select(_m.id, _m.stage_id, _m.device_id, _m.environment_id, _m.median, _m.n).where(
        _m.stage_id == wanted, _m.status == Status.OK.value
    )
    found: dict[Place, dict[int, Known]] = {}
    for row in connection.execute(statement):
        device = devices[row.device_id]
        place = Place(device.key, device.model, device.simulated, environments[row.environment_id])
        known = Known(row.median, row.n, row.id)
        stages = found.setdefault(place, {})
        other = stages.get(row.stage_id)
        if other is None or (known.n, known.id) > (other.n, other.id):
            stages[row.stage_id] = known
    return found
