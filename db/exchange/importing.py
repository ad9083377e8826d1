"""Exported lines (`portable.py`) into a database: what is there is not stored again, what is wrong is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any

from sqlalchemy import Connection, insert, select, update

from iosfarm.db import plans, tables
from iosfarm.db.connection.dialect import texts
from iosfarm.db.connection.handle import Handle
from iosfarm.db.exchange.checking import Checker, Entry, NewDevice, NewEnvironment, Row, Whole
from iosfarm.db.exchange.exchange import ImportReport, Rejected
from iosfarm.db.exchange.portable import (
    AnyLine,
    EndLine,
    RunLine,
    ScheduleLine,
    SearchLine,
)
from iosfarm.db.exchange.storing import Batch, Stored, Writers
from iosfarm.db.rows import device_row, environment_row
from iosfarm.db.searches import SearchState
from iosfarm.ir.device import Device, Environment, canonical_json
from iosfarm.ir.summary import StageSummary

PLANS = 1000
"""Plans of one transaction."""


class Importer:
    """Takes lines one by one; stores measurements in batches. `finish` must be called after the last."""

    def __init__(self, handle: Handle, source: str, report: Callable[[ImportReport], None] = lambda _: None) -> None:
        self.result = ImportReport(source)
        self._handle = handle
        self._report = report
        self._checker = Checker()
        self._devices: dict[int, Device] = {}
        self._environments: dict[int, Environment] = {}
        self._runs: dict[int, int] = {}
        self._searches: dict[int, int] = {}
        self._stages: dict[str, StageSummary] = {}
        self._waiting: list[Row] = []
        self._plans: list[plans.FoundPlan] = []
        self._writers = Writers(handle, self._settled)
        self._ended = False

    def take(self, line: AnyLine, number: int) -> None:
        """One line. Lines that refer to one that was rejected are rejected.

        Raises:
            DatabaseError: it cannot be stored; what was stored before stays.
        """
        self.store(self._checker.check(line, number))

    def store(self, entry: Entry) -> None:
        """What a `Checker` made of a line, see `take`."""
        if type(entry) is tuple:
            line, _, _, _, search, *_ = entry
            if search is not None and search not in self._searches:
                self.result.reject(line, f"there is no search {search}")
                return
            self._waiting.append(entry)
            if len(self._waiting) >= self._writers.rows:
                self._flush()
        elif isinstance(entry, StageSummary):
            self._stages[entry.key] = entry
        elif isinstance(entry, plans.FoundPlan):
            self._plans.append(entry)
            if len(self._plans) >= PLANS:
                self._store_plans()
        elif isinstance(entry, Rejected):
            self.result.reject(entry.line, entry.reason)
        elif isinstance(entry, NewDevice):
            if entry.number in self._devices:
                self._store_now()  # what waits is of the one that had the number before
            self._devices[entry.number] = entry.device
        elif isinstance(entry, NewEnvironment):
            if entry.number in self._environments:
                self._store_now()
            self._environments[entry.number] = entry.environment
        elif isinstance(entry, Whole):
            try:
                self._whole(entry.content, entry.line)
            except ValueError as error:
                self.result.reject(entry.line, str(error))

    def finish(self) -> ImportReport:
        """Stores what waits. Without an end among the lines, the source was cut short."""
        self._store_plans()
        self._store_now()
        self._writers.close()
        self.result.complete &= self._ended
        return self.result

    def _whole(self, line: RunLine | SearchLine | ScheduleLine | EndLine, number: int) -> None:
        if isinstance(line, EndLine):
            self._ended = True
            self.result.complete &= line.lines == number - 1
            return
        self._store_now()
        with self._handle._transaction(write=True) as connection:
            if isinstance(line, RunLine):
                self._run(connection, line)
            elif isinstance(line, SearchLine):
                self._search(connection, line)
            else:
                self._schedule(connection, line)

    def _store_plans(self) -> None:
        if not self._plans:
            return
        with self._handle._transaction(write=True) as connection:
            self.result.plans += plans.store(connection, self._plans)
        self._plans = []

    def _store_now(self) -> None:
        self._flush()
        self._writers.settle()

    def _flush(self) -> None:
        """Hands over what waits: the next is read meanwhile."""
        if self._waiting:
            numbers = self._devices, self._environments, self._searches
            needed = {row[1] for row in self._waiting} & self._stages.keys()
            stages = {key: self._stages.pop(key) for key in needed}
            self._writers.store(Batch(self._waiting, stages, *numbers))
            self._waiting = []

    def _settled(self, batch: Stored) -> None:
        self.result.stored += batch.stored
        self.result.known += batch.known
        self.result.quarantined += batch.quarantined
        for line, reason in map(astuple, batch.rejected):
            self.result.reject(line, reason)
        self._report(self.result)

    def _run(self, connection: Connection, line: RunLine) -> None:
        run = tables.run.c
        values = {
            **{name: value for name, value in vars(line).items() if name not in ("type", "run")},
            "outcome": line.outcome.value,
            **{name: canonical_json(getattr(line, name)) for name in ("models", "devices", "settings", "failed")},
        }
        same = (run.started_at == line.started_at, run.host == line.host, run.models == values["models"])
        number, new = _once(connection, tables.run, same, values, ended=line.outcome is not SearchState.RUNNING)
        self._runs[line.run] = number
        self.result.runs += new

    def _search(self, connection: Connection, line: SearchLine) -> None:
        if line.run is not None and line.run not in self._runs:
            raise ValueError(f"there is no run {line.run}")
        values = {
            "model": line.model,
            "settings": canonical_json(line.settings),
            "state": line.state.value,
            "started_at": line.started_at,
            "finished_at": line.finished_at,
            "counts": None if line.counts is None else canonical_json(line.counts),
            "run_id": None if line.run is None else self._runs[line.run],
        }
        search = tables.search.c
        same = (search.started_at == line.started_at, search.model == line.model, search.settings == values["settings"])
        number, new = _once(connection, tables.search, same, values, ended=line.state is not SearchState.RUNNING)
        self._searches[line.search] = number
        self.result.searches += new

    def _schedule(self, connection: Connection, line: ScheduleLine) -> None:
        device, environment = self._devices[line.device], self._environments[line.environment]
        if line.search is not None and line.search not in self._searches:
            raise ValueError(f"there is no search {line.search}")
        schedule, measured = tables.schedule.c, tables.measurement.c
        same = (
            schedule.created_at == line.created_at,
            schedule.model == line.model,
            schedule.graph_hash == line.graph_hash,
            schedule.batch == line.batch,
        )
        if connection.scalar(select(schedule.id).where(*same)) is not None:
            return
        uids = [entry.measurement for entry in line.stages if entry.measurement is not None]
        rows = connection.execute(
            select(measured.uid, measured.id).where(measured.uid == texts(connection, sorted(set(uids))))
        )
        ids = {row.uid: row.id for row in rows}
        rests_on = {entry.position: ids.get(entry.measurement or "") for entry in line.stages}
        scalars = ("model", "graph_hash", "batch", "dtype", "predicted", "measured", "lower_bound", "created_at")
        values = {
            **{name: getattr(line, name) for name in scalars},
            "search_id": None if line.search is None else self._searches[line.search],
            "device_id": device_row(connection, device),
            "environment_id": environment_row(connection, environment),
            "document": _document_with(line.document, rests_on),
        }
        number = connection.execute(insert(tables.schedule).returning(schedule.id), values).scalar_one()
        parts = [
            {
                **{name: value for name, value in vars(entry).items() if name != "measurement"},
                "schedule_id": number,
                "measurement_id": rests_on[entry.position],
            }
            for entry in line.stages
        ]
        if len({entry.position for entry in line.stages}) < len(parts):
            raise ValueError("two stages of a schedule have one position")
        if parts:
            connection.execute(insert(tables.schedule_stage), parts)
        self.result.schedules += 1


def _once(
    connection: Connection, table: Any, same: tuple[Any, ...], values: Mapping[str, Any], *, ended: bool
) -> tuple[int, bool]:
    """The row that is the same, or a new one, and whether it is new. One that runs here and ended there has ended."""
    found: int | None = connection.scalar(select(table.c.id).where(*same))
    if found is None:
        return connection.execute(insert(table).returning(table.c.id), dict(values)).scalar_one(), True
    if ended:
        state = table.c.outcome if "outcome" in table.c else table.c.state
        connection.execute(update(table).where(table.c.id == found, state == SearchState.RUNNING.value).values(values))
    return found, False


def _document_with(document: str, measurements: dict[int, int | None]) -> str:
    """A schedule file whose stages rest on the measurements of this database, by position; as it is, if it is none."""
    try:
        content = json.loads(document)
        for position, stage in enumerate(content["stages"]):
            if stage.get("measurement") is not None:
                stage["measurement"] = measurements.get(position)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return document
    return json.dumps(content, ensure_ascii=False)
