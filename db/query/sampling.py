"""Devices that have measured, and a random share of what they measured."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from sqlalchemy import cast as sql_cast
from sqlalchemy import func, select

from iosfarm.db import tables
from iosfarm.db.connection.dialect import fetch, texts
from iosfarm.db.connection.handle import Handle
from iosfarm.db.encoding import Answer, decode
from iosfarm.db.errors import DatabaseError
from iosfarm.db.measurements import Recorded
from iosfarm.db.query.pairs import device_keys
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Status

MOST_LISTED = 100_000
"""Measurements to choose from where random numbers found too few."""

_d, _e, _m, _s = tables.device.c, tables.environment.c, tables.measurement.c, tables.stage.c


@dataclass(frozen=True)
class KnownDevice:
    """A device that has measured, the environment and the layout of what it measured last."""

    device: Device
    environment: Environment
    layout: str


class Sampling(Handle):
    """The methods of `LatencyDatabase` that describe devices, and choose what to measure again."""

    def device(self, name: str) -> KnownDevice:
        """The device that is called so (model, kind or key), as it measured last.

        Raises:
            DatabaseError: there is none, there are several kinds of that name, or it has measured nothing.
        """
        newest = (
            select(_d.kind, _d.model, _d.properties, _d.instance, _e.hard, _e.soft, _s.layout)
            .join_from(tables.measurement, tables.device)
            .join(tables.environment)
            .join(tables.stage)
            .order_by(_m.measured_at.desc())
            .limit(1)
        )
        with self._transaction(write=False) as connection:
            key = device_keys(connection, name, self.name)
            ids = connection.scalars(select(_d.id).where(_d.key == key)).all()
            rows = [connection.execute(newest.where(_m.device_id == number)).first() for number in ids]
        row = next((row for row in rows if row is not None), None)
        if row is None:
            raise DatabaseError(f"the device {name!r} has measured nothing", where=self.name)
        device = Device(row.kind, row.model, json.loads(row.properties), json.loads(row.instance))
        return KnownDevice(device, Environment(json.loads(row.hard), json.loads(row.soft)), row.layout)

    def sample(self, device: Device, environment: Environment, count: int, seed: int = 0) -> list[tuple[str, Recorded]]:
        """Up to `count` stages, chosen by chance among those this kind of device has measured in this environment (hard
        fields): their canonical JSON, and a measurement of each.
        """
        chance = random.Random(seed)
        here = (
            _m.device_id.in_(select(_d.id).where(_d.key == device.key)),
            _m.environment_id.in_(select(_e.id).where(_e.hard_key == environment.hard_key)),
            _m.status == Status.OK.value,
        )
        with self._transaction(write=False) as connection:
            last = connection.scalar(select(func.max(_m.id))) or 0
            numbers = [str(chance.randint(1, last)) for _ in range(50 * count)] if last else []
            drawn = _m.id.in_(select(sql_cast(texts(connection, numbers), tables.BigId)))
            ids = list(connection.scalars(select(_m.id).where(drawn, *here)))
            if len(ids) < count:
                listed = select(_m.id).where(*here).order_by(_m.measured_at.desc()).limit(MOST_LISTED)
                ids = list(connection.scalars(listed))
            chosen = chance.sample(sorted(ids), min(len(ids), 2 * count))  # some are of one stage
            wanted = sql_cast(texts(connection, [str(number) for number in chosen]), tables.BigId)
            columns = (_m[name] for name in Answer._fields)
            statement = select(_s.key, _s.canonical, *columns).join(tables.stage).where(_m.id == wanted)
            found = {key: (text, Answer._make(row)) for key, text, *row in fetch(connection, statement)}
        order = chance.sample(sorted(found), min(len(found), count))
        return [(text, Recorded(row.id, decode(row, key, self.name))) for key in order for text, row in [found[key]]]
