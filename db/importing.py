"""Lines of `iosfarm.db.portable` into a database: what is there already is not stored again, what is wrong is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from iosfarm.db import tables
from iosfarm.db.dialect import texts
from iosfarm.db.encoding import Place, encode, place_of
from iosfarm.db.exchange import ImportReport
from iosfarm.db.handle import Handle
from iosfarm.db.measurements import USABLE, insert_measurements
from iosfarm.db.portable import (
    AnyLine,
    DeviceLine,
    EndLine,
    EnvironmentLine,
    MeasurementLine,
    RunLine,
    ScheduleLine,
    SearchLine,
    StageLine,
)
from iosfarm.db.rows import device_row, environment_row, stage_ids, stage_rows
from iosfarm.db.searches import SearchState
from iosfarm.ir.device import Device, Environment, canonical_json
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.summary import StageSummary

BATCH = 5000
"""Measurements of one transaction."""


@dataclass(frozen=True)
class _Waiting:
    line: int
    entry: MeasurementLine
    measurement: Measurement
    device: Device
    environment: Environment


class Importer:
    """Takes lines one by one; stores measurements in batches. `finish` must be called after the last."""

    def __init__(self, handle: Handle, source: str, report: Callable[[ImportReport], None] = lambda _: None) -> None:
        self.result = ImportReport(source)
        self._handle = handle
        self._report = report
        self._devices: dict[int, Device] = {}
        self._environments: dict[int, Environment] = {}
        self._places: dict[tuple[int, int], Place] = {}
        self._runs: dict[int, int] = {}
        self._searches: dict[int, int] = {}
        self._stages: dict[str, StageSummary] = {}
        self._waiting: list[_Waiting] = []
        self._ended = False

    def take(self, line: AnyLine, number: int) -> None:
        """One line. Lines that refer to one that was rejected are rejected.

        Raises:
            DatabaseError: it cannot be stored; what was stored before stays.
        """
        try:
            self._take(line, number)
        except ValueError as error:
            self.result.reject(number, str(error))

    def finish(self) -> ImportReport:
        """Stores what waits. Without an end among the lines, the source was cut short."""
        self._flush()
        self.result.complete &= self._ended
        return self.result

    def _take(self, line: AnyLine, number: int) -> None:
        if self._ended:
            raise ValueError("a line after the end")
        if isinstance(line, MeasurementLine):
            self._measurement(line, number)
        elif isinstance(line, StageLine):
            self._stages[line.key] = line.value()
        elif isinstance(line, DeviceLine):
            self._devices[line.device] = line.value()
        elif isinstance(line, EnvironmentLine):
            self._environments[line.environment] = line.value()
        elif isinstance(line, EndLine):
            self._ended = True
            self.result.complete &= line.lines == number - 1
        else:
            self._flush()
            with self._handle._transaction(write=True) as connection:
                if isinstance(line, RunLine):
                    self._run(connection, line)
                elif isinstance(line, SearchLine):
                    self._search(connection, line)
                else:
                    self._schedule(connection, line)

    def _measurement(self, line: MeasurementLine, number: int) -> None:
        device, environment = self._place(line.device, line.environment)
        if line.search is not None and line.search not in self._searches:
            raise ValueError(f"there is no search {line.search}")
        self._waiting.append(_Waiting(number, line, line.value(), device, environment))
        if len(self._waiting) >= BATCH:
            self._flush()

    def _place(self, device: int, environment: int) -> tuple[Device, Environment]:
        if device not in self._devices:
            raise ValueError(f"there is no device {device}")
        if environment not in self._environments:
            raise ValueError(f"there is no environment {environment}")
        return self._devices[device], self._environments[environment]

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            with self._handle._transaction(write=True) as connection:
                self._store(connection, waiting)
            self._report(self.result)
        # Measurements follow their stages; should one come later, its stage is in the database by then.
        self._stages.clear()

    def _store(self, connection: Connection, waiting: list[_Waiting]) -> None:
        wanted = {item.entry.stage for item in waiting}
        numbers = stage_rows(connection, [s for key, s in self._stages.items() if key in wanted])
        numbers |= stage_ids(connection, sorted(wanted - numbers.keys()))
        places: dict[tuple[int, int], tuple[int, int, Place]] = {}
        rows: dict[str, dict[str, Any]] = {}
        for item in waiting:
            entry = item.entry
            if entry.stage not in numbers:
                self.result.reject(item.line, f"there is no stage {entry.stage}")
                continue
            place = entry.device, entry.environment
            if place not in places:
                ids = device_row(connection, item.device), environment_row(connection, item.environment)
                places[place] = *ids, place_of(item.device, item.environment)
            device, environment, identity = places[place]
            columns = encode(item.measurement, identity)
            search = None if entry.search is None else self._searches[entry.search]
            refers = {"stage_id": numbers[entry.stage], "device_id": device, "environment_id": environment}
            rows[columns["uid"]] = {**refers, "search_id": search, **columns}
        if not rows:
            return
        measured, uids = tables.measurement.c, list(rows)
        known = set(connection.scalars(select(measured.uid).where(measured.uid == texts(connection, uids))))
        insert_measurements(connection, [row for uid, row in rows.items() if uid not in known])
        self.result.stored += len(rows) - len(known)
        self.result.known += len(known)
        for uid in known:
            if rows[uid]["status"] == Status.QUARANTINED:
                self._quarantine(connection, uid, rows[uid]["reason"])

    def _quarantine(self, connection: Connection, uid: str, reason: str) -> None:
        measured = tables.measurement.c
        values = {"status": Status.QUARANTINED.value, "reason": reason}
        flag = update(tables.measurement).where(measured.uid == uid, measured.status.in_(USABLE)).values(values)
        self.result.quarantined += connection.execute(flag.returning(measured.id)).first() is not None

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
        device, environment = self._place(line.device, line.environment)
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
