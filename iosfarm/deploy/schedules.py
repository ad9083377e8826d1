"""Which schedule a model is to run under: one that is given, or the latency database's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from iosfarm.db import LatencyDatabase
from iosfarm.deploy.isomorphism import corresponding_units
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule

MOST_COMPARED = 200
"""Of the schedules of other graphs, the newest that are looked at for the same network under other names."""


def remembered(
    database: LatencyDatabase, graph: Graph, device: Device, environment: Environment
) -> tuple[Schedule, str] | None:
    """The database's newest schedule for a graph on a device, and where it is from in words; None if there is none.

    One of the same environment is preferred, then one that was not interrupted. If there is none for the very graph,
    the same network under other names will do.

    Raises:
        DatabaseError.
    """
    asked = {"batch": graph.batch, "dtype": graph.dtype, "device": device}
    rows = database.schedules(graph_hash=graph.content_hash, **asked)  # type: ignore[arg-type]
    found = _best([ScheduleFile.model_validate_json(row.document) for row in rows], environment)
    if found is not None:
        return found.schedule(), _origin(found, environment)
    documents = [
        ScheduleFile.model_validate_json(row.document)
        for row in database.schedules(limit=MOST_COMPARED, **asked)  # type: ignore[arg-type]
    ]
    units: dict[str, dict[str, str]] = {}
    for document in documents:
        if document.graph_hash not in units:
            same = corresponding_units(Graph.from_json(document.graph), graph)
            units[document.graph_hash] = {} if same is None else same
    found = _best([document for document in documents if units[document.graph_hash]], environment)
    if found is None:
        return None
    return _renamed(found.schedule(), units[found.graph_hash]), _origin(found, environment)


def given(
    schedule: Schedule | str | Path, graph: Graph, device: Device | None = None
) -> tuple[Schedule, Graph, tuple[str, ...]]:
    """A schedule that the user passed, the graph with the batch size and dtype that it is for, and what to tell of a
    device on which it is to run.

    Raises:
        UsageError: it cannot be read, or is for another graph.
    """
    if isinstance(schedule, Schedule):
        return schedule, graph, ()
    path = Path(schedule)
    content, own = load(path)
    bound = graph.bind(batch=own.batch, dtype=own.dtype)
    chosen = content.schedule()
    if own.content_hash != bound.content_hash:
        units = corresponding_units(own, bound)
        if units is None:
            what = f"made for {content.model}, which is another network than this {graph.name}"
            raise UsageError(what, where=str(path), hint="search again for this one")
        chosen = _renamed(chosen, units)
    if device is None or content.device.model == device.model:
        return chosen, bound, ()
    return chosen, bound, (f"{path} was searched on {content.device.model} and runs on {device.model}",)


def _best(documents: list[ScheduleFile], environment: Environment) -> ScheduleFile | None:
    """The best one; `documents` are the newest first."""
    hard = dict(environment.hard)
    ranked = sorted(documents, key=lambda d: (d.device.environment != hard, d.interrupted))
    return ranked[0] if ranked else None


def _origin(document: ScheduleFile, environment: Environment) -> str:
    text = f"the schedule {document.chosen} of {document.model}, found {document.created:%Y-%m-%d %H:%M} UTC"
    other = [name for name, value in environment.hard.items() if document.device.environment.get(name) != value]
    return f"{text}, with another {', '.join(other)}" if other else text


def _renamed(schedule: Schedule, units: dict[str, str]) -> Schedule:
    stages = [
        dataclasses.replace(stage, groups=tuple(tuple(units[name] for name in group) for group in stage.groups))
        for stage in schedule.stages
    ]
    return dataclasses.replace(schedule, stages=tuple(stages))
