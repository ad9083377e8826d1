"""Searches and the schedules they found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from iosfarm.db import tables
from iosfarm.db.connection.handle import Handle
from iosfarm.db.errors import DatabaseError
from iosfarm.db.query.filters import device_is
from iosfarm.db.rows import device_row, environment_row
from iosfarm.ir.device import Device, Environment, canonical_json


class SearchState(StrEnum):
    """How far a search is. One that was killed stays `running`."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # by its budget or by the user; its best schedules are valid
    FAILED = "failed"


@dataclass(frozen=True)
class SearchRow:
    """One search. `counts` is empty until it ends."""

    id: int
    model: str
    settings: Mapping[str, Any]
    state: SearchState
    started_at: datetime
    finished_at: datetime | None
    counts: Mapping[str, Any]
    run_id: int | None = None


@dataclass(frozen=True)
class ScheduledStageRow:
    """One stage of a schedule. predicted: seconds. measurement_id: what the prediction rests on, if anything."""

    position: int
    part: int
    stage_key: str
    strategy: str
    predicted: float | None
    measurement_id: int | None = None


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule. Latencies in seconds; `document` is the schedule file's JSON text."""

    id: int
    search_id: int | None
    model: str
    graph_hash: str
    batch: int
    dtype: str
    device: str
    device_kind: str
    simulated: bool
    predicted: float | None
    measured: float | None
    lower_bound: float | None
    created_at: datetime
    document: str
    stages: tuple[ScheduledStageRow, ...]


class Searches(Handle):
    """The methods of `LatencyDatabase` about searches and schedules."""

    def start_search(self, model: str, settings: Mapping[str, Any], *, run_id: int | None = None) -> int:
        """Stores that a search of `model` begins, in a run if it is part of one; returns its id.

        settings: whatever JSON can hold.
        """
        with self._transaction(write=True) as connection:
            return _start(connection, model, settings, run_id)

    def finish_search(self, search_id: int, state: SearchState | str, counts: Mapping[str, Any]) -> None:
        """Stores how a search ended: `finished`, `interrupted` or `failed`, and what it counted.

        Raises:
            DatabaseError: there is no such search, or it has ended before.
            ValueError: `state` is none of the three.
        """
        ended = SearchState(state)
        if ended is SearchState.RUNNING:
            raise ValueError("a search that ends is not running")
        with self._transaction(write=True) as connection:
            _finish(connection, search_id, ended, counts, self.name)

    def searches(
        self, *, model: str | None = None, run_id: int | None = None, limit: int | None = None
    ) -> list[SearchRow]:
        """Searches, the newest first."""
        with self._transaction(write=False) as connection:
            return _searches(connection, model, run_id, limit)

    def record_schedule(
        self,
        *,
        search_id: int | None,
        model: str,
        graph_hash: str,
        batch: int,
        dtype: str,
        device: Device,
        environment: Environment,
        predicted: float | None,
        measured: float | None,
        lower_bound: float | None,
        document: str,
        stages: Sequence[ScheduledStageRow],
    ) -> int:
        """Stores a schedule, latencies in seconds; returns its id. document: the schedule file's JSON text."""
        values = {
            "search_id": search_id,
            "model": model,
            "graph_hash": graph_hash,
            "batch": batch,
            "dtype": dtype,
            "predicted": predicted,
            "measured": measured,
            "lower_bound": lower_bound,
            "document": document,
        }
        with self._transaction(write=True) as connection:
            return _record_schedule(connection, values, device, environment, stages)

    def schedules(
        self,
        *,
        model: str | None = None,
        graph_hash: str | None = None,
        batch: int | None = None,
        dtype: str | None = None,
        device: str | Device | None = None,
        simulated: bool | None = None,
        search_id: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[ScheduleRow]:
        """Schedules that meet every given condition, the newest first. device: as in `query`. before: only those with
        a smaller id, to go on where an answer with a `limit` ended.
        """
        filters = {
            "model": model,
            "graph_hash": graph_hash,
            "batch": batch,
            "dtype": dtype,
            "search_id": search_id,
            "simulated": simulated,
        }
        with self._transaction(write=False) as connection:
            return _schedules(connection, filters, device, before, limit)


def _start(connection: Connection, model: str, settings: Mapping[str, Any], run_id: int | None) -> int:
    values = {
        "run_id": run_id,
        "model": model,
        "settings": canonical_json(dict(settings)),
        "state": SearchState.RUNNING.value,
        "started_at": datetime.now(UTC),
    }
    statement = insert(tables.search).returning(tables.search.c.id)
    return int(connection.execute(statement, values).scalar_one())


def _finish(connection: Connection, number: int, state: SearchState, counts: Mapping[str, Any], name: str) -> None:
    columns = tables.search.c
    statement = (
        update(tables.search)
        .where(columns.id == number, columns.state == SearchState.RUNNING.value)
        .values(state=state.value, finished_at=datetime.now(UTC), counts=canonical_json(dict(counts)))
    )
    if connection.execute(statement).rowcount != 1:
        state_now = connection.scalar(select(columns.state).where(columns.id == number))
        what = f"search {number} is {state_now} already" if state_now else f"there is no search {number}"
        raise DatabaseError(what, where=name)


def _searches(connection: Connection, model: str | None, run_id: int | None, limit: int | None) -> list[SearchRow]:
    statement = select(tables.search).order_by(tables.search.c.id.desc()).limit(limit)
    if model is not None:
        statement = statement.where(tables.search.c.model == model)
    if run_id is not None:
        statement = statement.where(tables.search.c.run_id == run_id)
    return [
        SearchRow(
            id=row.id,
            model=row.model,
            settings=json.loads(row.settings),
            state=SearchState(row.state),
            started_at=row.started_at,
            finished_at=row.finished_at,
            counts=json.loads(row.counts) if row.counts else {},
            run_id=row.run_id,
        )
        for row in connection.execute(statement)
    ]


def _record_schedule(
    connection: Connection,
    values: Mapping[str, Any],
    device: Device,
    environment: Environment,
    stages: Sequence[ScheduledStageRow],
) -> int:
    row = {
        **values,
        "device_id": device_row(connection, device),
        "environment_id": environment_row(connection, environment),
        "created_at": datetime.now(UTC),
    }
    statement = insert(tables.schedule).returning(tables.schedule.c.id)
    number: int = connection.execute(statement, row).scalar_one()
    if stages:
        rows = [
            {"schedule_id": number, **vars(stage), "measurement_id": _own(stage.measurement_id)} for stage in stages
        ]
        connection.execute(insert(tables.schedule_stage), rows)
    return number


def _schedules(
    connection: Connection,
    filters: Mapping[str, Any],
    on: str | Device | None,
    before: int | None,
    limit: int | None,
) -> list[ScheduleRow]:
    schedule, device, part = tables.schedule, tables.device, tables.schedule_stage
    statement = (
        select(schedule, device.c.model.label("device"), device.c.kind, device.c.simulated)
        .join(device, device.c.id == schedule.c.device_id)
        .order_by(schedule.c.id.desc())
        .limit(limit)
    )
    for column, value in filters.items():
        if value is not None:
            statement = statement.where((device if column == "simulated" else schedule).c[column] == value)
    if on is not None:
        statement = statement.where(device_is(on))
    if before is not None:
        statement = statement.where(schedule.c.id < before)
    found = connection.execute(statement).all()
    stages: dict[int, list[ScheduledStageRow]] = {row.id: [] for row in found}
    for number in stages:
        rows = connection.execute(select(part).where(part.c.schedule_id == number).order_by(part.c.position))
        stages[number] = [ScheduledStageRow(*row[1:]) for row in rows]
    names = [n for n in ScheduleRow.__dataclass_fields__ if n not in ("device_kind", "stages")]
    return [
        ScheduleRow(**{n: getattr(row, n) for n in names}, device_kind=row.kind, stages=tuple(stages[row.id]))
        for row in found
    ]


def _own(measurement_id: int | None) -> int | None:
    """Measurements of an overlay have negative ids: there is no row here to refer to."""
    return None if measurement_id is None or measurement_id < 0 else measurement_id
