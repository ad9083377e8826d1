"""Looking measurements up and recording them: what a search does thousands of times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from iosfarm.db import tables
from iosfarm.db.bulk import insert_rows
from iosfarm.db.connection.dialect import KEYS_AT_ONCE, READERS, fetch, texts
from iosfarm.db.connection.handle import Handle
from iosfarm.db.encoding import Answer, Columns, decode, encode, place_of
from iosfarm.db.errors import MissingRowError
from iosfarm.db.lease_rows import end_leases
from iosfarm.db.rows import device_rows, environment_row, stage_rows
from iosfarm.ir.device import Device, Environment, Fact
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.summary import StageSummary

USABLE = (Status.OK, Status.INFEASIBLE)
"""What a look-up may answer with: verdicts about the stage, not accidents of the infrastructure."""


@dataclass(frozen=True)
class Recorded:
    """A measurement from the database.

    id: negative for a measurement of an overlay. soft_differences: soft environment fields that differ: name -> (asked
    for, recorded). Empty where none does.
    """

    id: int
    measurement: Measurement
    soft_differences: Mapping[str, tuple[Fact | None, Fact | None]] = field(default_factory=dict)


class Batch(NamedTuple):
    """Measurements of one device in one environment, each with its stage."""

    items: Sequence[tuple[StageSummary, Measurement]]
    device: Device
    environment: Environment


class Measurements(Handle):
    """The methods of `LatencyDatabase` about single measurements."""

    def lookup(self, keys: Iterable[str], device: Device, environment: Environment) -> dict[str, Recorded]:
        """The measurement to rely on of each stage key; keys without a usable one (`ok`, `infeasible`) are left out.

        Reuse needs the same stage key, the same `Device.key` and the same `Environment.hard_key`. Soft differences
        are told in `Recorded.soft_differences`. Where there are several, the newest decides whether the stage is
        infeasible. Else one of the very same environment is preferred; of these the one with the most samples, which
        knows the median best; of these the newest. What this database lacks is looked for in its overlay. Meant for
        many keys at once (10,000 take some tenths of a second); thousands are looked up on several connections, each
        of which sees what is committed when it begins.
        """
        wanted = list(dict.fromkeys(keys))

        def part(some: Sequence[str]) -> dict[str, Recorded]:
            with self._transaction(write=False) as connection:
                return usable(connection, some, device, environment, self.name)

        found: dict[str, Recorded] = {}
        parts = [wanted] if self._location.in_memory else _parts(wanted)
        if len(parts) == 1:
            found = part(wanted)
        else:
            # In a large database each key takes some pages from the disk. While some parts wait for theirs, others are
            # made into measurements.
            with ThreadPoolExecutor(READERS, "lookup") as readers:
                for answers in readers.map(part, parts):
                    found.update(answers)
        return {**beneath(self, [key for key in wanted if key not in found], device, environment), **found}

    def record(
        self,
        items: Sequence[tuple[StageSummary, Measurement]],
        device: Device,
        environment: Environment,
        *,
        search_id: int | None = None,
        owner: str | None = None,
    ) -> list[int]:
        """Stores measurements of one device and environment; returns their ids in the order of `items`.

        Stages, device and environment that are new are stored with them; several processes may do so at once. A
        measurement that is stored already (the same samples, worker, attempt and time, to the microsecond) is not
        stored again: its id is returned, so that a batch whose outcome is unknown may simply be recorded again.

        owner: ends the owner's leases of these stages in the same transaction, so that nobody else is granted a stage
        whose measurement he cannot see.

        Raises:
            ValueError: a measurement is of another stage than its summary, has a sample that is not finite, or a
                time without a zone. Nothing is stored.
            TransientDatabaseError: try again.
        """
        (numbers,) = self.record_all([Batch(items, device, environment)], search_id=search_id, owner=owner)
        return numbers

    def record_all(
        self, batches: Sequence[Batch], *, search_id: int | None = None, owner: str | None = None
    ) -> list[list[int]]:
        """As `record`, for several devices and environments, in one transaction: a farm's devices end their tasks at
        all times, and each transaction waits for the disk.
        """
        for batch in batches:
            for summary, measurement in batch.items:
                if summary.key != measurement.stage_key:
                    raise ValueError(f"a measurement of stage {measurement.stage_key} with summary {summary.key}")
        places = [place_of(batch.device, batch.environment) for batch in batches]
        encoded = [[encode(m, place) for _, m in batch.items] for batch, place in zip(batches, places, strict=True)]
        if not any(encoded):
            return [[] for _ in batches]
        try:
            return self._record(batches, encoded, search_id, owner)
        except MissingRowError:
            # Stages without measurements may have been pruned since they were looked up: this time they are stored.
            return self._record(batches, encoded, search_id, owner)

    def _record(
        self, batches: Sequence[Batch], encoded: Sequence[Sequence[Columns]], search_id: int | None, owner: str | None
    ) -> list[list[int]]:
        with self._transaction(write=True) as connection:
            stages = stage_rows(connection, [summary for batch in batches for summary, _ in batch.items])
            devices = device_rows(connection, [batch.device for batch in batches])
            environments = {batch.environment.key: batch.environment for batch in batches}
            numbered = {key: environment_row(connection, found) for key, found in sorted(environments.items())}
            rows = [
                (stages[summary.key], device, numbered[batch.environment.key], search_id, *columns)
                for batch, device, all_columns in zip(batches, devices, encoded, strict=True)
                for (summary, _), columns in zip(batch.items, all_columns, strict=True)
            ]
            insert_measurements(connection, rows)
            numbers = measurement_ids(connection, [columns.uid for all_columns in encoded for columns in all_columns])
            if owner is not None:
                _end_leases(connection, batches, owner)
            return [[numbers[columns.uid] for columns in all_columns] for all_columns in encoded]


def _parts(keys: Sequence[str]) -> list[Sequence[str]]:
    """Keys to look up side by side."""
    if len(keys) < 2 * KEYS_AT_ONCE:
        return [keys]
    ordered = sorted(keys)  # as the index has them: readers keep out of each other's pages
    return [ordered[first : first + KEYS_AT_ONCE] for first in range(0, len(keys), KEYS_AT_ONCE)]


def _end_leases(connection: Connection, batches: Sequence[Batch], owner: str) -> None:
    """The owner's leases of what the batches hold; one statement for devices that share them."""
    alike: dict[tuple[str, str], list[Batch]] = {}
    for batch in batches:
        alike.setdefault((batch.device.key, batch.environment.hard_key), []).append(batch)
    for _, some in sorted(alike.items(), key=lambda item: item[0]):
        keys = {summary.key for batch in some for summary, _ in batch.items}
        end_leases(connection, keys, some[0].device, some[0].environment, owner)


def usable(
    connection: Connection,
    keys: Sequence[str],
    device: Device,
    environment: Environment,
    name: str,
    after: Mapping[str, int] | None = None,
) -> dict[str, Recorded]:
    """See `Measurements.lookup`. after: by stage key, the id after which a measurement must have been recorded."""
    after = after or {}
    devices = connection.scalars(select(tables.device.c.id).where(tables.device.c.key == device.key)).all()
    known = tables.environment
    environments = {
        row.id: Environment(json.loads(row.hard), json.loads(row.soft))
        for row in connection.execute(select(known).where(known.c.hard_key == environment.hard_key))
    }
    if not devices or not environments:
        return {}
    measurement, stage, wanted = tables.measurement, tables.stage, texts(connection, keys)
    # A farm has many devices of one kind. Looking into the index for each of them takes longer than reading the few
    # measurements of a stage: an expression keeps the index to the stage.
    device_id = measurement.c.device_id if len(devices) == 1 else measurement.c.device_id + 0
    statement = (
        select(stage.c.key, *(measurement.c[name] for name in Answer._fields))
        .join_from(stage, measurement, measurement.c.stage_id == stage.c.id)
        .where(
            stage.c.key == wanted,
            device_id.in_(devices),
            measurement.c.environment_id.in_(environments),
            measurement.c.status.in_(USABLE),
        )
    )
    candidates: dict[str, list[Answer]] = {}
    # Not ordered by the database: SQLite would walk through all measurements in the order of their times.
    for key, *columns in fetch(connection, statement):
        row = Answer._make(columns)
        if row.id > after.get(key, -1):
            candidates.setdefault(key, []).append(row)
    differences = {number: environment.soft_differences(other) for number, other in environments.items()}
    found = {}
    for key, rows in candidates.items():
        row = _preferred(rows, differences)
        found[key] = Recorded(row.id, decode(row, key, name), differences[row.environment_id])
    return found


def beneath(handle: Handle, keys: Sequence[str], device: Device, environment: Environment) -> dict[str, Recorded]:
    """What the overlay of a handle has to use; nothing where there is none."""
    if handle.overlay is None or not keys:
        return {}
    with handle.overlay._transaction(write=False) as connection:
        found = usable(connection, keys, device, environment, handle.overlay.name)
    return {key: replace(recorded, id=-recorded.id) for key, recorded in found.items()}


def _preferred(rows: Sequence[Answer], differences: Mapping[int, Mapping[str, Any]]) -> Answer:
    if len(rows) == 1:
        return rows[0]
    newest = max(rows, key=lambda row: (row.measured_at, row.id))
    if newest.status == Status.INFEASIBLE:
        return newest
    measured = [row for row in rows if row.status == Status.OK]
    return max(measured, key=lambda row: (not differences[row.environment_id], row.n, row.measured_at, row.id))


MEASUREMENT = ("stage_id", "device_id", "environment_id", "search_id", *Columns._fields)


def insert_measurements(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Stores rows unless they are there, values in the order of `MEASUREMENT`; returns how many were not there."""
    return insert_rows(connection, tables.measurement, MEASUREMENT, rows)


def measurement_ids(connection: Connection, uids: Sequence[str]) -> dict[str, int]:
    """Ids of the measurements that are stored, by `uid`."""
    columns, wanted = tables.measurement.c, texts(connection, uids)
    found = connection.execute(select(columns.uid, columns.id).where(columns.uid == wanted))
    return {row.uid: row.id for row in found}
