"""What iosfarm's own rows need before their processes start: a schedule, a graph after substitutions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.ir.schedule import Schedule, ScheduledStage

if TYPE_CHECKING:
    from iosfarm.ir.graph import Graph
    from iosfarm.kernels.runtime import Weights

SCHEDULE, SUBSTITUTED = "schedule.json", "substituted"
"""A file, and a folder as `Problem` reads it."""


def find_schedule(
    graph: Graph, weights: Weights, device: str, database: str | None, budget: str, check: Callable[[], None]
) -> tuple[Schedule, str]:
    """The latency database's schedule for a graph on a device, or one that is searched for now; and where from.

    Raises:
        IosfarmError: there can be none, or the database cannot be used. What `check` raises when the user stops.
    """
    from iosfarm.db import LatencyDatabase
    from iosfarm.deploy.schedules import remembered
    from iosfarm.farm.api import open_executor, parsed_budget, run_jobs
    from iosfarm.farm.jobs.job import Job, SearchSettings

    with open_executor("inline") as executor:
        (info,) = executor.open(device)
    with LatencyDatabase(database) as memory:
        known = remembered(memory, graph, info.device, info.environment)
    if known is not None:
        return known
    job = Job(graph.name, graph, device, SearchSettings(budget=parsed_budget(budget)), weights)
    saved = run_jobs([job], database=database, executor="inline", stop=lambda: _stopped(check))
    check()
    return saved[0].result.schedule, "searched for this comparison"


def _stopped(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:
        return True
    return False


def write_schedule(folder: Path, schedule: Schedule, note: str) -> None:
    """Write what `read_schedule` reads."""
    stages = [{"part": s.part, "strategy": s.strategy, "groups": s.groups} for s in schedule.stages]
    document = {"method": schedule.method, "form": schedule.form, "note": note, "stages": stages}
    (folder / SCHEDULE).write_text(json.dumps(document), encoding="utf-8")


def read_schedule(document: dict[str, object]) -> Schedule:
    """A schedule of its JSON."""
    raw = document["stages"]
    assert isinstance(raw, list)
    stages = tuple(
        ScheduledStage(stage["part"], stage["strategy"], tuple(tuple(group) for group in stage["groups"]))
        for stage in raw
    )
    return Schedule(stages, str(document["method"]), form=str(document["form"]))


def write_substituted(
    folder: Path, graph: Graph, weights: Weights, device: str, database: str | None, check: Callable[[], None]
) -> None:
    """Write the graph that substitutions on measured costs lead to, where the adapter finds it.

    Raises:
        IosfarmError: a unit could not be measured. What `check` raises.
    """
    from iosfarm.compare import problem
    from iosfarm.farm.measured_costs import MeasuredCosts
    from iosfarm.search.substitutions import substitute

    costs = MeasuredCosts(device, database, check)
    found = substitute(graph, weights, costs, layout=costs.layout)
    applied = ", ".join(f"{count} {rule}" for rule, count in sorted(found.rules.items())) or "no substitution pays"
    saved = 1 - found.after / found.before if found.before else 0.0
    note = f"{applied}; predicted {saved:.1%} less" if found.rules else applied
    (folder / SUBSTITUTED).mkdir()
    problem.write(folder / SUBSTITUTED, found.graph, found.weights, [], {"note": note})
