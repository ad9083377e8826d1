"""Deleting measurements: the one thing that takes something away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import aliased

from iosfarm.db import plans, tables
from iosfarm.db.connection.dialect import database_size, texts, vacuum
from iosfarm.db.connection.handle import Handle
from iosfarm.db.errors import DatabaseError, translated
from iosfarm.db.lease_rows import delete_expired
from iosfarm.db.measurements import USABLE
from iosfarm.db.query.filters import Conditions, select_by
from iosfarm.ir.errors import UsageError

BATCH = 5000
"""Measurements of one transaction: others can write in between."""

_m, _s, _part = tables.measurement.c, tables.stage.c, tables.schedule_stage.c


@dataclass(frozen=True)
class PruneReport:
    """What was deleted, or would be: measurements, and stages that have none left. kept: measurements that meet the
    conditions and stay, because a schedule rests on them. leases: expired ones. plans: those that meet conditions on
    devices and times, where there are no others.
    """

    measurements: int
    kept: int
    stages: int
    leases: int
    plans: int


class Pruning(Handle):
    """The method of `LatencyDatabase` that deletes."""

    def shrink(self) -> int:
        """Gives the room of deleted rows back to the disk; returns the bytes by which the database is smaller. It is
        written anew, which takes as much room again meanwhile, and lets nobody else write.

        Raises:
            TransientDatabaseError: another process is writing, or there is no room.
        """
        with self._transaction(write=False) as connection:
            before = database_size(connection)
        if self.readonly:
            raise DatabaseError("opened read-only: it cannot be made smaller", where=self.name)
        with translated(self.name):
            vacuum(self._connected(), tables.metadata.tables)
        with self._transaction(write=False) as connection:
            return max(0, before - database_size(connection))

    def prune(
        self,
        *,
        superseded: bool = False,
        dry_run: bool = False,
        report: Callable[[int], None] = lambda _: None,
        **conditions: Unpack[Conditions],
    ) -> PruneReport:
        """Deletes the measurements that meet every condition. What a recorded schedule rests on stays.

        superseded: only those that no look-up can answer with any more, because a newer one of the same device and
        environment has as many samples. dry_run: nothing is deleted, only counted (stages are not). report: told now
        and then how many are gone. It may be interrupted: what is deleted is deleted.

        Raises:
            UsageError: no condition at all, or one that cannot be.
        """
        if not superseded and not any(value is not None for value in conditions.values()):
            raise UsageError(
                "prune needs a condition", hint="say what is to go, such as --status failed or --older 90d"
            )
        with self._transaction(write=False) as connection:
            chosen = select_by(connection, conditions).checked()
            # SQLite gives a deleted row's number to the next one if it was the highest: that one stays.
            last = connection.scalar(select(func.max(_m.id))) or 0
            old = None if superseded else plans.meeting(conditions)
        if superseded:
            chosen.append(_superseded())
        used = exists().where(_part.measurement_id == _m.id)
        doomed = [*chosen, ~used, _m.id < last]
        with self._transaction(write=False) as connection:
            kept = connection.scalar(select(func.count(_m.id)).where(*chosen, used)) or 0
            if dry_run:
                count = connection.scalar(select(func.count(_m.id)).where(*doomed)) or 0
                return PruneReport(count, kept, 0, 0, 0 if old is None else plans.count(connection, old))
        measurements = stages = 0
        while True:
            with self._transaction(write=True) as connection:
                gone, orphans = _delete(connection, doomed)
            measurements += gone
            stages += orphans
            if not gone:
                break
            report(measurements)
        with self._transaction(write=True) as connection:
            leases = delete_expired(connection)
            return PruneReport(measurements, kept, stages, leases, 0 if old is None else plans.remove(connection, old))


def _superseded() -> ColumnElement[bool]:
    newer = aliased(tables.measurement, name="newer").c
    later = (newer.measured_at > _m.measured_at) | ((newer.measured_at == _m.measured_at) & (newer.id > _m.id))
    return exists().where(
        newer.stage_id == _m.stage_id,
        newer.device_id == _m.device_id,
        newer.environment_id == _m.environment_id,
        newer.status.in_(USABLE),
        newer.status == _m.status,
        newer.n >= _m.n,
        later,
    )


def _delete(connection: Connection, doomed: list[ColumnElement[bool]]) -> tuple[int, int]:
    """Deletes a batch of measurements and the stages that have none left; returns how many of both."""
    rows = connection.execute(select(_m.id, _m.stage_id).where(*doomed).order_by(_m.id).limit(BATCH)).all()
    if not rows:
        return 0, 0
    connection.execute(delete(tables.measurement).where(_m.id.in_(_numbers(connection, {row.id for row in rows}))))
    touched = {row.stage_id for row in rows}
    empty = select(_s.id).where(_s.id.in_(_numbers(connection, touched)), ~exists().where(_m.stage_id == _s.id))
    orphans = set(connection.scalars(empty))
    if orphans:
        operators = tables.stage_operator.c.stage_id.in_(_numbers(connection, orphans))
        connection.execute(delete(tables.stage_operator).where(operators))
        connection.execute(delete(tables.stage).where(_s.id.in_(_numbers(connection, orphans))))
    return len(rows), len(orphans)


def _numbers(connection: Connection, numbers: set[int]) -> Select[Any]:
    return select(sql_cast(texts(connection, [str(number) for number in sorted(numbers)]), tables.BigId))
