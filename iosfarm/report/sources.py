"""What a report is about: schedule files, and the schedules that a run left in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iosfarm.db import LatencyDatabase, RunRow
from iosfarm.farm.schedules.schedule_file import load, parse
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph


@dataclass(frozen=True)
class Source:
    """One schedule. where: what messages call it; in the report it says where the schedule is from."""

    content: ScheduleFile
    graph: Graph
    where: str


def is_run(target: str) -> bool:
    """Whether a target of the command line is the number of a run; a file of that name goes first."""
    return target.isascii() and target.isdigit() and not Path(target).exists()


def of_file(target: str) -> Source:
    """The schedule of a file.

    Raises:
        UsageError: see `iosfarm.farm.schedules.schedule_file.load`.
    """
    path = Path(target)
    if path.is_dir():
        raise UsageError("this is a folder", where=target, hint=f"name its files, such as {target.rstrip('/')}/*.json")
    return Source(*load(path), target)


def of_run(database: LatencyDatabase, number: int) -> tuple[RunRow, Sequence[Source], Sequence[str]]:
    """A run of the database, its schedules in the order of its searches, and in words the searches that have none.

    Raises:
        UsageError: it has none, or one that this version cannot read. DatabaseError: there is no such run.
    """
    run = database.run(number)
    sources, without = [], []
    for search in sorted(database.searches(run_id=number), key=lambda row: row.id):
        rows = sorted(database.schedules(search_id=search.id), key=lambda row: row.id)
        if not rows:
            settings = (
                f"{name} {search.settings[name]}" for name in ("device", "batch", "dtype") if name in search.settings
            )
            without.append(f"{', '.join((search.model, *settings))}: {search.state}, without a schedule")
        for row in rows:
            sources.append(Source(*parse(row.document, f"{database.name}: schedule {row.id}"), f"run {number}"))
    if not sources:
        hint = "it goes on" if run.outcome == "running" else "search again: what was measured is kept"
        raise UsageError(f"run {number} ({run.outcome}) has no schedule", where=database.name, hint=hint)
    return run, sources, without
