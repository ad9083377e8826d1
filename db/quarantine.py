"""What is not to be believed: flagging it, seeing it, and taking it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Row, case, func, literal, select, update
from sqlalchemy import cast as sql_cast

from iosfarm.db import tables
from iosfarm.db.connection.dialect import texts
from iosfarm.db.connection.handle import Handle
from iosfarm.db.encoding import storable
from iosfarm.db.errors import DatabaseError
from iosfarm.db.measurements import USABLE
from iosfarm.db.query.filters import device_is
from iosfarm.ir.device import Device, Fact, canonical_json
from iosfarm.ir.measurement import Status

ADRIFT = "the reference stage took "
"""How the reason begins where a device was adrift while it measured: that is so whoever is believed later."""

_m, _d, _s = tables.measurement.c, tables.device.c, tables.stage.c


@dataclass(frozen=True)
class Quarantined:
    """Measurements of one physical device that are not believed. first, last: when they were measured."""

    model: str
    kind: str
    simulated: bool
    instance: Mapping[str, Fact]
    reason: str
    measurements: int
    first: datetime
    last: datetime


class Quarantine(Handle):
    """The methods of `LatencyDatabase` about measurements that are not believed.

    They are `quarantined` instead of `ok` or `infeasible`, with a reason: look-ups pass over them, nothing else about
    them changes.
    """

    def quarantine(self, device: Device, since: datetime, reason: str) -> dict[int, str]:
        """Flags what one physical device (`Device.key`, `Device.instance`) measured since then as not to be believed.

        Returns the stage keys of those flagged by measurement id; flagging again changes nothing.

        Raises:
            ValueError: no reason, or a time without a zone.
        """
        if since.tzinfo is None:
            raise ValueError("quarantine needs a reason and a time with a zone")
        instance = canonical_json(dict(device.instance))
        devices = select(_d.id).where(_d.key == device.key, _d.instance == instance)
        with self._transaction(write=True) as connection:
            return _flag(connection, [_m.device_id.in_(devices), _m.measured_at >= since], reason)

    def set_quarantine(
        self,
        device: str,
        reason: str,
        *,
        instance: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Flags what devices of a model, kind or key have measured; returns how many measurements. instance: of those
        devices only these, by what tells them apart, such as `{"node": "gpu7"}`. since, until: of that time only.

        Raises:
            DatabaseError: there is no such device. ValueError: no reason.
        """
        times = [_m.measured_at >= since] if since is not None else []
        times += [_m.measured_at < until] if until is not None else []
        with self._transaction(write=True) as connection:
            mine = _m.device_id.in_(_devices(connection, device, instance, self.name))
            return len(_flag(connection, [mine, *times], reason))

    def lift_quarantine(self, device: str, *, instance: Mapping[str, str] | None = None) -> int:
        """Believes devices again, see `set_quarantine`; returns how many measurements. What they measured while they
        were adrift stays as it is.

        Raises:
            DatabaseError: there is no such device.
        """
        # A stage that cannot run has no latency, and why it cannot was replaced by why that was not believed.
        infeasible = _m.median.is_(None)
        before = case((infeasible, Status.INFEASIBLE.value), else_=Status.OK.value)
        reason = case((infeasible, literal("it cannot run; that was not believed for a while: ") + _m.reason), else_="")
        with self._transaction(write=True) as connection:
            mine = _m.device_id.in_(_devices(connection, device, instance, self.name))
            lifted = update(tables.measurement).where(mine, *_FLAGGED, ~_m.reason.startswith(ADRIFT, autoescape=True))
            return len(connection.execute(lifted.values(status=before, reason=reason).returning(_m.id)).all())

    def quarantined(self) -> list[Quarantined]:
        """What is not believed, by physical device and reason, the newest first; those adrift are one reason."""
        adrift = _m.reason.startswith(ADRIFT, autoescape=True)
        reason = case((adrift, f"{ADRIFT}another time than at the start"), else_=_m.reason).label("reason")
        last = func.max(_m.measured_at).label("last")
        rows = (
            select(
                _m.device_id, reason, func.count().label("n"), func.min(_m.measured_at).label("first"), last
            )
            .where(*_FLAGGED)
            .group_by(_m.device_id, reason)
            .order_by(last.desc())
        )  # fmt: skip
        with self._transaction(write=False) as connection:
            devices = {row.id: row for row in connection.execute(select(tables.device))}
            return [_quarantined(devices[row.device_id], row) for row in connection.execute(rows)]


_FLAGGED = (_m.status == Status.QUARANTINED.value,)


def _quarantined(device: Row[tuple[object, ...]], row: Row[tuple[object, ...]]) -> Quarantined:
    instance = json.loads(device.instance)
    times = row.first, row.last
    return Quarantined(device.model, device.kind, device.simulated, instance, row.reason, row.n, *times)


def _devices(
    connection: Connection, device: str, instance: Mapping[str, str] | None, name: str
) -> list[int]:  # fmt: skip
    rows = connection.execute(select(_d.id, _d.instance).where(device_is(device))).all()
    if not rows:
        raise DatabaseError(f"no device {device!r}", where=name, hint="`iosfarm db stats` lists those that measured")
    wanted = (instance or {}).items()
    chosen = [row.id for row in rows if all(str(json.loads(row.instance).get(k)) == v for k, v in wanted)]
    if not chosen:
        known = "; ".join(dict.fromkeys(row.instance for row in rows[:5]))
        raise DatabaseError(f"no such one of {device!r}", where=name, hint=f"there are {known}")
    return chosen


def _flag(connection: Connection, conditions: list[ColumnElement[bool]], reason: str) -> dict[int, str]:
    if not reason.strip():
        raise ValueError("quarantine needs a reason and a time with a zone")
    flagged = (
        update(tables.measurement)
        .where(*conditions, _m.status.in_(USABLE))
        .values(status=Status.QUARANTINED.value, reason=storable(reason))
        .returning(_m.id, _m.stage_id)
    )
    stages = {row.id: row.stage_id for row in connection.execute(flagged)}
    wanted = texts(connection, [str(number) for number in set(stages.values())])
    rows = connection.execute(select(_s.id, _s.key).where(_s.id == sql_cast(wanted, tables.BigId)))
    keys = {row.id: row.key for row in rows}
    return {number: keys[stage_id] for number, stage_id in stages.items()}
