"""Runs: one row for each `iosfarm search`, with what it did and how it ended."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from iosfarm.db import tables
from iosfarm.db.connection.dialect import DatabaseClock
from iosfarm.db.connection.handle import Handle
from iosfarm.db.encoding import storable
from iosfarm.db.errors import DatabaseError
from iosfarm.db.searches import SearchState
from iosfarm.ir.device import canonical_json

_run = tables.run.c


@dataclass(frozen=True)
class RunSummary:
    """What a run has done so far.

    stages: distinct ones that its search spaces hold. measured: of these, by this run; found: in the database. failed:
    failed measurements by kind (`timeout`, `worker died`, …). busy: share of the time that devices were measuring, 0
    to 1. gap: the largest of its jobs.
    """

    stages: int = 0
    measured: int = 0
    found: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    busy: float | None = None
    gap: float | None = None


@dataclass(frozen=True)
class RunRow:
    """One run. outcome: `running` also for one that was killed. silent: seconds since it last told of itself, by the
    database's clock.
    """

    id: int
    outcome: SearchState
    started_at: datetime
    finished_at: datetime | None
    silent: float
    models: tuple[str, ...]
    devices: tuple[str, ...]
    settings: Mapping[str, Any]
    host: str
    version: str
    summary: RunSummary
    note: str


class Runs(Handle):
    """The methods of `LatencyDatabase` about runs."""

    def begin_run(
        self,
        models: Sequence[str],
        devices: Sequence[str],
        *,
        settings: Mapping[str, Any] | None = None,
        host: str | None = None,
    ) -> int:
        """Stores that a run begins; returns its id. devices: as the user named them. host: by default this one."""
        values = {
            "outcome": SearchState.RUNNING.value,
            "started_at": datetime.now(UTC),
            "updated": DatabaseClock(),
            "models": canonical_json(list(models)),
            "devices": canonical_json(list(devices)),
            "settings": canonical_json(dict(settings or {})),
            "host": storable(platform.node() if host is None else host),
            "version": version("iosfarm"),
            "note": "",
            **_columns(RunSummary()),
        }
        with self._transaction(write=True) as connection:
            return int(connection.execute(insert(tables.run).values(values).returning(_run.id)).scalar_one())

    def update_run(self, run_id: int, summary: RunSummary) -> None:
        """Stores how far a run is; tells that it is alive.

        Raises:
            DatabaseError: there is no such run, or it has ended.
            ValueError: a share or gap that is not finite.
        """
        self._change_run(run_id, _columns(summary))

    def finish_run(self, run_id: int, outcome: SearchState | str, summary: RunSummary, *, note: str = "") -> None:
        """Stores how a run ended: `finished`, `interrupted` or `failed`, and why if there is something to say.

        Raises:
            DatabaseError: there is no such run, or it has ended.
            ValueError: `outcome` is none of the three; a share or gap that is not finite.
        """
        ended = SearchState(outcome)
        if ended is SearchState.RUNNING:
            raise ValueError("a run that ends is not running")
        end = {"outcome": ended.value, "finished_at": datetime.now(UTC), "note": storable(note)}
        self._change_run(run_id, {**end, **_columns(summary)})

    def runs(self, *, outcome: SearchState | str | None = None, limit: int | None = None) -> list[RunRow]:
        """Runs, the newest first."""
        statement = select(tables.run, _SILENT).order_by(_run.id.desc()).limit(limit)
        if outcome is not None:
            statement = statement.where(_run.outcome == SearchState(outcome).value)
        with self._transaction(write=False) as connection:
            return [_row(row) for row in connection.execute(statement)]

    def run(self, run_id: int) -> RunRow:
        """One run.

        Raises:
            DatabaseError: there is no such run.
        """
        with self._transaction(write=False) as connection:
            row = connection.execute(select(tables.run, _SILENT).where(_run.id == run_id)).one_or_none()
        if row is None:
            raise DatabaseError(f"there is no run {run_id}", where=self.name, hint="`iosfarm runs list` shows them")
        return _row(row)

    def _change_run(self, run_id: int, values: Mapping[str, Any]) -> None:
        running = (_run.id == run_id, _run.outcome == SearchState.RUNNING.value)
        statement = update(tables.run).where(*running).values(updated=DatabaseClock(), **values).returning(_run.id)
        with self._transaction(write=True) as connection:
            if connection.execute(statement).first() is None:
                now = connection.scalar(select(_run.outcome).where(_run.id == run_id))
                what = f"run {run_id} is {now} already" if now else f"there is no run {run_id}"
                raise DatabaseError(what, where=self.name)


_SILENT = func.coalesce(DatabaseClock() - _run.updated, 0.0).label("silent")


def _columns(summary: RunSummary) -> dict[str, Any]:
    for name in ("busy", "gap"):
        value = getattr(summary, name)
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError(f"a run's {name} of {value}")
    return {**vars(summary), "failed": canonical_json(dict(summary.failed))}


def _row(row: Row[Any]) -> RunRow:
    summary = RunSummary(row.stages, row.measured, row.found, json.loads(row.failed), row.busy, row.gap)
    return RunRow(
        id=row.id,
        outcome=SearchState(row.outcome),
        started_at=row.started_at,
        finished_at=row.finished_at,
        silent=max(row.silent, 0.0),
        models=tuple(json.loads(row.models)),
        devices=tuple(json.loads(row.devices)),
        settings=json.loads(row.settings),
        host=row.host,
        version=row.version,
        summary=summary,
        note=row.note,
    )
