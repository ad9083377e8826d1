"""How much the database remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from iosfarm.db import tables
from iosfarm.db.connection.dialect import database_size
from iosfarm.db.connection.handle import Handle
from iosfarm.db.lease_rows import count_leases
from iosfarm.db.measurements import USABLE
from iosfarm.ir.measurement import Status

KINDS = 100
"""Kinds of device that one pass counts the stages of."""


@dataclass(frozen=True)
class DeviceStatistics:
    """What is known about one kind of device (one `Device.key`). instances: how many of them measured."""

    key: str
    kind: str
    model: str
    simulated: bool
    instances: int
    stages: int
    measurements: int
    usable: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True)
class DatabaseStatistics:
    """What is in a database. database: its path, or its URL without the password. Counts are rows; size in bytes."""

    database: str
    schema_version: str
    size: int
    stages: int
    measurements: int
    environments: int
    searches: int
    schedules: int
    plans: int
    by_status: Mapping[str, int]
    leases: Mapping[str, int]
    devices: tuple[DeviceStatistics, ...]


class Statistics(Handle):
    """The methods of `LatencyDatabase` that count."""

    def stats(self) -> DatabaseStatistics:
        """How much is in the database, and of which devices."""
        with self._transaction(write=False) as connection:
            return _statistics(connection, self.name, self.schema_version)


def _statistics(connection: Connection, name: str, schema_version: str) -> DatabaseStatistics:
    # Each of these reads an index, not the measurements themselves: there may be millions.
    totals = {row.device_id: row for row in connection.execute(_TOTALS)}
    wrong: dict[int, dict[str, int]] = {}
    for row in connection.execute(_WRONG):
        wrong.setdefault(row.device_id, {})[row.status] = row.count_
    measurements = sum(row.count_ for row in totals.values())
    by_status: dict[str, int] = {}
    for counts in wrong.values():
        for status, count in counts.items():
            by_status[status] = by_status.get(status, 0) + count
    if correct := measurements - sum(by_status.values()):
        by_status[Status.OK.value] = correct
    return DatabaseStatistics(
        database=name,
        schema_version=schema_version,
        size=database_size(connection),
        stages=_count(connection, "stage"),
        measurements=measurements,
        environments=_count(connection, "environment"),
        searches=_count(connection, "search"),
        schedules=_count(connection, "schedule"),
        plans=_count(connection, "plan"),
        by_status=dict(sorted(by_status.items())),
        leases=count_leases(connection),
        devices=_devices(connection, totals, wrong),
    )


_m, _d = tables.measurement.c, tables.device.c
_TOTALS = select(
    _m.device_id,
    func.count().label("count_"),
    func.min(_m.measured_at).label("first"),
    func.max(_m.measured_at).label("last"),
).group_by(_m.device_id)
_WRONG = (
    select(_m.device_id, _m.status, func.count().label("count_"))
    .where(_m.status != Status.OK.value)
    .group_by(_m.device_id, _m.status)
)


def _devices(
    connection: Connection, totals: Mapping[int, Row[Any]], wrong: Mapping[int, Mapping[str, int]]
) -> tuple[DeviceStatistics, ...]:
    kinds: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(tables.device).order_by(_d.simulated, _d.model, _d.key)):
        kinds.setdefault(row.key, []).append(row)
    stages = _stages(connection, {key: [row.id for row in rows] for key, rows in kinds.items()})
    found = []
    for key, rows in kinds.items():
        counts = [totals[row.id] for row in rows if row.id in totals]
        measurements = sum(row.count_ for row in counts)
        useless = sum(count for row in rows for status, count in wrong.get(row.id, {}).items() if status not in USABLE)
        found.append(
            DeviceStatistics(
                key=key,
                kind=rows[0].kind,
                model=rows[0].model,
                simulated=rows[0].simulated,
                instances=len(rows),
                stages=stages[key],
                measurements=measurements,
                usable=measurements - useless,
                first=min((row.first for row in counts), default=None),
                last=max((row.last for row in counts), default=None),
            )
        )
    return tuple(found)


def _stages(connection: Connection, ids: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """How many stages each kind of device has measured, by key: one pass over the stages' index for many kinds."""
    found: dict[str, int] = {}
    keys = list(ids)
    for start in range(0, len(keys), KINDS):
        chunk = keys[start : start + KINDS]
        has = [
            func.max(case((_m.device_id.in_(ids[key]), 1), else_=0)).label(f"has_{number}")
            for number, key in enumerate(chunk)
        ]
        by_stage = select(*has).group_by(_m.stage_id).subquery()
        row = connection.execute(select(*(func.sum(column) for column in by_stage.c))).one()
        found |= {key: int(count or 0) for key, count in zip(chunk, row, strict=True)}
    return found


def _count(connection: Connection, table: str) -> int:
    return connection.execute(select(func.count()).select_from(tables.metadata.tables[table])).scalar_one()
