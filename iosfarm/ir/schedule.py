"""`Schedule`: the stages of a network, in order, and what is known of their latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import PlacedStage, StageFactory
from iosfarm.ir.merge import merge_class, merged_convolution
from iosfarm.ir.stage_units import LAYOUTS, STAGE_STRATEGIES

STAGES = "stages"
"""The form that every runtime has."""


@dataclass(frozen=True)
class ScheduledStage:
    """One stage of a schedule, by the names of its units.

    part: which part of the graph it belongs to. key: the stage's key. predicted: seconds, None where nothing is known.
    measurement: id of the measurement in the latency database that the prediction rests on.
    """

    part: int
    strategy: str
    groups: tuple[tuple[str, ...], ...]
    key: str = ""
    predicted: float | None = None
    measurement: int | None = None


@dataclass(frozen=True)
class CertificatePoint:
    """What a search knew at one time: seconds since it began, distinct stages known, and the bounds in seconds."""

    seconds: float
    known: int
    lower: float
    upper: float


@dataclass(frozen=True)
class Certificate:
    """How far a schedule's predicted latency can be from the best one that the search space holds, in seconds.

    kind: `exhaustive` (every stage measured), `structural` (stages that were not measured are bounded from below
    because a larger stage is not faster than one that it contains) or `statistical` (by a regression too, each bound
    at `confidence`: each, not the schedule as a whole); `assumptions` say it in words. gap: (upper - lower) / lower.
    audited: how many bounds were put to the test by a measurement; broken: how many of them failed. structural: the
    lower bound without statistics. history: how the bounds drew together; empty where that was not kept.
    """

    kind: str
    lower: float
    upper: float
    assumptions: tuple[str, ...] = ()
    audited: int = 0
    broken: int = 0
    structural: float | None = None
    confidence: float | None = None
    history: tuple[CertificatePoint, ...] = field(default=(), compare=False, repr=False)

    @property
    def gap(self) -> float:
        """Relative to the lower bound; infinite where nothing is known."""
        return max(0.0, self.upper / self.lower - 1) if self.lower > 0 else float("inf")


@dataclass(frozen=True)
class Schedule:
    """Stages in order. `method` says where it comes from: sequential, greedy, or the search's method. `form`: how it is
    executed, one of the runtime's forms: `stages` has a barrier between stages.
    """

    stages: tuple[ScheduledStage, ...]
    method: str = ""
    certificate: Certificate | None = field(default=None, compare=False)
    form: str = STAGES

    @property
    def predicted(self) -> float | None:
        """Sum of the stages' latencies in seconds, None where one is missing."""
        known = [stage.predicted for stage in self.stages if stage.predicted is not None]
        return sum(known) if len(known) == len(self.stages) else None

    def place(self, graph: Graph, layout: str) -> list[PlacedStage]:
        """The stages to execute, validated against a graph.

        Raises:
            UsageError: a unit is missing, unknown or scheduled twice, a stage runs before something it needs, or
                a merge is not possible; the line says which stage and unit.
        """
        if layout not in LAYOUTS:
            raise UsageError(f"unknown layout {layout!r}", hint=f"use one of {', '.join(LAYOUTS)}")
        return place(graph, self.stages, layout)


def place(graph: Graph, stages: Sequence[ScheduledStage], layout: str) -> list[PlacedStage]:
    """See `Schedule.place`."""
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    factory = StageFactory(graph, layout)
    done: set[int] = set()
    placed = []
    for position, stage in enumerate(stages):
        where = f"stage {position}"
        unknown = [name for group in stage.groups for name in group if name not in index]
        if unknown:
            raise UsageError(f"{graph.name} has no unit {unknown[0]!r}", where=where, hint="is this another graph?")
        groups = [[index[name] for name in group] for group in stage.groups]
        _check_stage(graph, stage.strategy, groups, done, where)
        placed.append(factory.make(groups, stage.strategy))
        done.update(unit for group in groups for unit in group)
    missing = [unit.name for i, unit in enumerate(graph.units) if i not in done]
    if missing:
        raise UsageError(f"the unit {missing[0]!r} is in no stage", where=graph.name, hint="the schedule is incomplete")
    return placed


def _check_stage(graph: Graph, strategy: str, groups: Sequence[Sequence[int]], done: set[int], where: str) -> None:
    if strategy not in STAGE_STRATEGIES:
        known = ", ".join(STAGE_STRATEGIES)
        raise UsageError(f"unknown strategy {strategy!r}", where=where, hint=f"use one of {known}")
    seen: set[int] = set()
    group_of = {unit: number for number, group in enumerate(groups) for unit in group}
    if not group_of or any(not group for group in groups):
        raise UsageError("an empty group", where=where)
    for number, group in enumerate(groups):
        for unit in group:
            name = graph.units[unit].name
            if unit in done or unit in seen:
                raise UsageError(f"the unit {name!r} is scheduled twice", where=where)
            seen.add(unit)
            for needed in graph.unit_predecessors[unit]:
                if needed not in done and group_of.get(needed) != number:
                    raise UsageError(f"{name!r} needs {graph.units[needed].name!r}, which has not run", where=where)
    if strategy == "merge":
        if any(len(group) > 1 for group in groups):
            raise UsageError("a merge stage has one unit a group", where=where)
        if not mergeable(graph, [unit for group in groups for unit in group]):
            raise UsageError("these units cannot be merged into one convolution", where=where)
    if strategy == "mixed":
        if len(groups) < 2:
            raise UsageError("a mixed stage has two or more groups", where=where, hint="one merged group is a merge")
        if not any(mergeable(graph, group) for group in groups):
            raise UsageError("no group of this mixed stage can be merged", where=where, hint="use concurrent")


def mergeable(graph: Graph, units: Sequence[int]) -> bool:
    """Whether two or more units can run as one merged convolution."""
    classes = {merge_class(graph, unit) for unit in units}
    if len(units) < 2 or len(classes) != 1 or None in classes:
        return False
    operators = [graph.operator(graph.units[unit].operators[0]) for unit in units]
    height, width = graph.shape(operators[0].inputs[0])[2:]
    return merged_convolution([o.attributes for o in operators], (height, width)) is not None
