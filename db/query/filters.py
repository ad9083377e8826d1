"""Conditions on measurements: what a user may ask for, and the SQL of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from typing import Any, TypedDict

from sqlalchemy import Column, ColumnElement, Connection, Select, and_, exists, func, or_, select

from iosfarm.db import tables
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status

Range = int | tuple[int | None, int | None]
"""One value, or from .. to, both included; None: no end."""


class Conditions(TypedDict, total=False):
    """What measurements must meet, all of it; None: no condition.

    op, channels, in_channels, out_channels, height, width, kernel and stride are met together by one operator of the
    stage; sizes are of its first input, channels are those that come in or those that go out. shape: (batch, channels,
    height, width) of that input. kernel: a side or (height, width). device: a `Device`, or a model's name, a kind
    (`cpu`, `cuda`, `sim:v100`) or a key. environment: same hard fields. facts: fields of the environment by name, with
    `*` and `?` for any text (`{"driver": "535.*"}`). model: measured in a search of the network, or used by one of its
    schedules. simulated: only what an analytic model said (True), or only what was measured (False). stage_key: whole,
    or its first digits. since, until: when it was measured, with time zone.
    """

    op: str | None
    channels: Range | None
    in_channels: Range | None
    out_channels: Range | None
    height: Range | None
    width: Range | None
    kernel: int | tuple[int, int] | None
    stride: Range | None
    shape: tuple[int, int, int, int] | None
    strategy: str | None
    dtype: str | None
    layout: str | None
    batch: Range | None
    units: Range | None
    groups: Range | None
    stage_key: str | None
    device: str | Device | None
    environment: Environment | None
    facts: Mapping[str, str] | None
    simulated: bool | None
    status: Status | str | None
    model: str | None
    search_id: int | None
    since: datetime | None
    until: datetime | None


_m, _s, _d, _e = tables.measurement.c, tables.stage.c, tables.device.c, tables.environment.c
_operator = tables.stage_operator.c


@dataclass(frozen=True)
class Selection:
    """Conditions as SQL, by the table that they are on."""

    measured: tuple[ColumnElement[bool], ...]
    stage: tuple[ColumnElement[bool], ...]
    operator: tuple[ColumnElement[bool], ...]

    @property
    def on_stages(self) -> bool:
        """Whether something is asked of the stages."""
        return bool(self.stage or self.operator)

    def checked(self) -> list[ColumnElement[bool]]:
        """Conditions to check on one measurement after the other: quick where most meet them."""
        conditions = list(self.measured)
        if self.stage:
            conditions.append(exists().where(_s.id == _m.stage_id, *self.stage))
        if self.operator:
            conditions.append(exists().where(_operator.stage_id == _m.stage_id, *self.operator))
        return conditions

    def found(self) -> list[ColumnElement[bool]]:
        """The same, looking for the stages first: quick where few meet them.

        Only operators have indexes to find stages by: without conditions on them, those on measurements say more.
        """
        narrow = self.operator or (self.stage and not self.measured)
        return [*self.measured, _m.stage_id.in_(self.stages())] if narrow else self.checked()

    def stages(self) -> Select[Any]:
        """Ids of the stages, a stage as often as operators of it are met."""
        if not self.operator:
            return select(_s.id).where(*self.stage)
        if not self.stage:
            return select(_operator.stage_id).where(*self.operator)
        both = select(_operator.stage_id).join(tables.stage, _s.id == _operator.stage_id)
        return both.where(*self.operator, *self.stage)


def select_by(connection: Connection, conditions: Conditions) -> Selection:
    """The SQL of conditions; devices and environments, of which there are few, are looked up here.

    Raises:
        UsageError: a condition that cannot be: an unknown status, a range that is upside down, …
    """
    given: dict[str, Any] = {name: value for name, value in conditions.items() if value is not None}
    sizes = ("in_channels", "out_channels", "height", "width", "stride")
    operator = [_within(_operator[name], given[name]) for name in sizes if name in given]
    operator += _operator_shape(given)
    if "op" in given:
        operator.append(_operator.kind == given["op"])
    if "channels" in given:
        wanted = given["channels"]
        operator.append(or_(_within(_operator.in_channels, wanted), _within(_operator.out_channels, wanted)))
    stage = [_s[name] == given[name] for name in ("strategy", "dtype", "layout") if name in given]
    stage += [_within(_s[name], given[name]) for name in ("batch", "units", "groups") if name in given]
    if "shape" in given:
        stage.append(_s.batch == given["shape"][0])
    if "stage_key" in given:
        stage.append(_key_begins(given["stage_key"]))
    return Selection(tuple(_measured(connection, given)), tuple(stage), tuple(operator))


def device_is(device: str | Device) -> ColumnElement[bool]:
    """A device by key, or by its model's name, its kind or its key as text, upper or lower case."""
    if isinstance(device, Device):
        return _d.key == device.key
    text = device.lower()
    return or_(func.lower(_d.model) == text, func.lower(_d.kind) == text, _d.key == text)


def _measured(connection: Connection, given: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    devices = [device_is(given["device"])] if "device" in given else []
    if "simulated" in given:
        devices.append(_d.simulated == given["simulated"])
    if devices:
        conditions.append(_one_of(_m.device_id, connection.scalars(select(_d.id).where(*devices)).all()))
    if "environment" in given or given.get("facts"):
        conditions.append(_one_of(_m.environment_id, _environments(connection, given)))
    if "status" in given:
        conditions += _status_is(given["status"])
    if "model" in given:
        conditions.append(_of_model(given["model"]))
    if "search_id" in given:
        conditions.append(_m.search_id == given["search_id"])
    for name, compare in (("since", _m.measured_at.__ge__), ("until", _m.measured_at.__le__)):
        if name in given:
            if given[name].tzinfo is None:
                raise UsageError(f"{name} {given[name]}: no time zone")
            conditions.append(compare(given[name]))
    return conditions


def _environments(connection: Connection, given: Mapping[str, Any]) -> list[int]:
    statement = select(_e.id, _e.hard, _e.soft)
    if "environment" in given:
        statement = statement.where(_e.hard_key == given["environment"].hard_key)
    wanted: Mapping[str, str] = given.get("facts") or {}
    found = []
    for row in connection.execute(statement):
        facts = {**json.loads(row.soft), **json.loads(row.hard)}
        if all(name in facts and fnmatch(str(facts[name]).lower(), text.lower()) for name, text in wanted.items()):
            found.append(row.id)
    return found


def _status_is(status: Status | str) -> list[ColumnElement[bool]]:
    if status not in list(Status):
        raise UsageError(f"no status {str(status)!r}", hint=f"choose one of {', '.join(Status)}")
    is_it = _m.status == str(status)
    # The second half is what the partial index of everything but `ok` asks for.
    return [is_it] if status == Status.OK else [is_it, _m.status != Status.OK.value]


def _of_model(model: str) -> ColumnElement[bool]:
    """Measured in a search of the model, or on a schedule of the model that reused it."""
    search, schedule, part = tables.search.c, tables.schedule.c, tables.schedule_stage.c
    searched = select(search.id).where(search.model == model)
    scheduled = select(part.stage_key).join_from(tables.schedule_stage, tables.schedule)
    stages = select(_s.id).where(_s.key.in_(scheduled.where(schedule.model == model)))
    return or_(_m.search_id.in_(searched), _m.stage_id.in_(stages))


def _operator_shape(given: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    conditions = []
    if "kernel" in given:
        kernel = given["kernel"]
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        conditions += [_operator.kernel_height == height, _operator.kernel_width == width]
    if "shape" in given:
        _, channels, height, width = given["shape"]
        conditions += [_operator.in_channels == channels, _operator.height == height, _operator.width == width]
    return conditions


def _within(column: Column[Any], wanted: Range) -> ColumnElement[bool]:
    if isinstance(wanted, int):
        return column == wanted
    low, high = wanted
    if low is None and high is None:
        return column.is_not(None)
    if low is not None and high is not None and low > high:
        raise UsageError(f"{column.name} from {low} to {high}: upside down", hint="write the smaller number first")
    ends = [column >= low] if low is not None else []
    return and_(*ends, *([column <= high] if high is not None else []))


def _key_begins(prefix: str) -> ColumnElement[bool]:
    text = prefix.lower()
    if not text or set(text) - set("0123456789abcdef") or len(text) > tables.DIGITS:
        raise UsageError(f"no stage key: {prefix!r}", hint="write its first hexadecimal digits")
    if len(text) == tables.DIGITS:
        return _s.key == text
    return and_(_s.key >= text, _s.key < text + "g")


def _one_of(column: Column[Any], ids: Sequence[int]) -> ColumnElement[bool]:
    # An equality where it is one: only then an index that goes on with the time gives rows in its order.
    return column == ids[0] if len(ids) == 1 else column.in_(ids)
