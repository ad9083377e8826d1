"""Imported measurements into the database, many in a transaction and, where the database can, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from iosfarm.db import tables
from iosfarm.db.connection.dialect import WRITING, prepare_import, texts
from iosfarm.db.connection.handle import Handle
from iosfarm.db.errors import MissingRowError
from iosfarm.db.exchange.checking import Row
from iosfarm.db.exchange.exchange import Rejected
from iosfarm.db.measurements import USABLE, insert_measurements
from iosfarm.db.rows import device_row, environment_row, stage_ids, stage_rows
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Status
from iosfarm.ir.summary import StageSummary


class Batch(NamedTuple):
    """Measurements of one transaction, and what their numbers mean. stages: by key, those that may be new."""

    rows: list[Row]
    stages: Mapping[str, StageSummary]
    devices: Mapping[int, Device]
    environments: Mapping[int, Environment]
    searches: Mapping[int, int]


@dataclass
class Stored:
    """What became of a batch, see `ImportReport`."""

    stored: int = 0
    known: int = 0
    quarantined: int = 0
    rejected: list[Rejected] = field(default_factory=list)


class Writers:
    """Stores batches on as many connections as `WRITING` says, and tells what became of each, in their order.

    A server's processes each store a batch, or wait for the disk, while the next is read. Two batches may hold the same
    rows: whoever comes second waits for the first, and never in a circle, for all insert in one order.
    """

    def __init__(self, handle: Handle, settled: Callable[[Stored], None]) -> None:
        self._handle = handle
        self._settled = settled
        connections, self.rows = WRITING[handle._location.url.get_backend_name()]
        self._threads = ThreadPoolExecutor(connections, "import")
        self._under_way: deque[Future[Stored]] = deque()
        self._recent: deque[Mapping[str, StageSummary]] = deque(maxlen=connections)

    def store(self, batch: Batch) -> None:
        """Hands over a batch, once a connection is free.

        Raises:
            DatabaseError: a batch before could not be stored.
        """
        if len(self._under_way) == self._recent.maxlen:
            self._settle_first()
        # A stage comes once, before its measurements; those that follow it into the next batch cannot wait for it.
        stages = {key: stage for stages in (*self._recent, batch.stages) for key, stage in stages.items()}
        self._recent.append(batch.stages)
        self._under_way.append(self._threads.submit(_store, self._handle, batch._replace(stages=stages)))

    def settle(self) -> None:
        """Waits until all that was handed over is stored.

        Raises:
            DatabaseError: as `store`.
        """
        while self._under_way:
            self._settle_first()

    def close(self) -> None:
        """Ends the threads. To be called after `settle`."""
        self._threads.shutdown()

    def _settle_first(self) -> None:
        self._settled(self._under_way.popleft().result())


def _store(handle: Handle, batch: Batch) -> Stored:
    try:
        return _store_once(handle, batch)
    except MissingRowError:
        # Stages without measurements may have been pruned since they were looked up: this time they are stored.
        return _store_once(handle, batch)


def _store_once(handle: Handle, batch: Batch) -> Stored:
    with handle._transaction(write=True) as connection:
        prepare_import(connection)
        return _store_in(connection, batch)


def _store_in(connection: Connection, batch: Batch) -> Stored:
    result = Stored()
    wanted = {key for _, key, *_ in batch.rows}
    stages = stage_rows(connection, [summary for key, summary in batch.stages.items() if key in wanted])
    stages |= stage_ids(connection, sorted(wanted - stages.keys()))
    devices = {n: device_row(connection, batch.devices[n]) for n in sorted({row[2] for row in batch.rows})}
    numbers = sorted({row[3] for row in batch.rows})
    environments = {n: environment_row(connection, batch.environments[n]) for n in numbers}
    rows: dict[str, tuple[Any, ...]] = {}
    quarantined: dict[str, str] = {}
    for line, key, device, environment, search, uid, status, reason, *rest in batch.rows:
        if key not in stages:
            result.rejected.append(Rejected(line, f"there is no stage {key}"))
            continue
        found_by = None if search is None else batch.searches[search]
        places = stages[key], devices[device], environments[environment]
        rows[uid] = *places, found_by, uid, status, reason, *rest
        if status == Status.QUARANTINED:
            quarantined[uid] = reason
    result.stored = insert_measurements(connection, [rows[uid] for uid in sorted(rows)])
    result.known = len(rows) - result.stored
    result.quarantined = _quarantine(connection, quarantined) if quarantined else 0
    return result


def _quarantine(connection: Connection, reasons: Mapping[str, str]) -> int:
    """What is quarantined there and believed here is not to be believed here either; returns how many."""
    measured = tables.measurement.c
    found = select(measured.uid).where(measured.uid == texts(connection, list(reasons)), measured.status.in_(USABLE))
    changed = 0
    for uid in sorted(connection.scalars(found)):
        values = {"status": Status.QUARANTINED.value, "reason": reasons[uid]}
        flag = update(tables.measurement).where(measured.uid == uid, measured.status.in_(USABLE)).values(values)
        changed += connection.execute(flag.returning(measured.id)).first() is not None
    return changed
