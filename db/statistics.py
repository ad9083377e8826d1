"""How much the database remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from iosfarm.db import tables
from iosfarm.db.dialect import database_size
from iosfarm.db.handle import Handle
from iosfarm.db.lease_rows import count_leases


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
    device, measurement = tables.device.c, tables.measurement.c
    kinds = (device.key, device.kind, device.model, device.simulated)
    usable = func.count(measurement.id).filter(measurement.status.in_(("ok", "infeasible")))
    per_device = (
        select(
            *kinds,
            func.count(device.id.distinct()),
            func.count(measurement.stage_id.distinct()),
            func.count(measurement.id),
            usable,
            func.min(measurement.measured_at),
            func.max(measurement.measured_at),
        )
        .outerjoin_from(tables.device, tables.measurement)
        .group_by(*kinds)
        .order_by(device.simulated, device.model, device.key)
    )
    return DatabaseStatistics(
        database=name,
        schema_version=schema_version,
        size=database_size(connection),
        stages=_count(connection, "stage"),
        measurements=_count(connection, "measurement"),
        environments=_count(connection, "environment"),
        searches=_count(connection, "search"),
        schedules=_count(connection, "schedule"),
        by_status=_counts(connection, "measurement", "status"),
        leases=count_leases(connection),
        devices=tuple(DeviceStatistics(*row) for row in connection.execute(per_device)),
    )


def _count(connection: Connection, table: str) -> int:
    return connection.execute(select(func.count()).select_from(tables.metadata.tables[table])).scalar_one()


def _counts(connection: Connection, table: str, column: str) -> dict[str, int]:
    values = tables.metadata.tables[table].c[column]
    statement = select(values, func.count()).group_by(values).order_by(values)
    return {row[0]: row[1] for row in connection.execute(statement)}
