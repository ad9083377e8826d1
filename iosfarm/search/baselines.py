"""The schedules that a search has to beat: one unit at a time, and every ready unit at once."""

from __future__ import annotations

from collections.abc import Sequence

from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.search.parts import Part


def sequential(graph: Graph, parts: Sequence[Part], layout: str) -> Schedule:
    """One unit a stage, in topological order."""
    return _schedule("sequential", graph, layout, [(p.index, [[unit]]) for p in parts for unit in p.units])


def greedy(graph: Graph, parts: Sequence[Part], layout: str) -> Schedule:
    """In each part: every unit whose inputs are there runs in the next stage, each in a group of its own."""
    stages: list[tuple[int, list[list[int]]]] = []
    for part in parts:
        left = dict(zip(part.units, part.predecessors(), strict=True))
        bit = {unit: 1 << i for i, unit in enumerate(part.units)}
        done = 0
        while left:
            ready = [unit for unit, before in left.items() if not before & ~done]
            stages.append((part.index, [[unit] for unit in ready]))
            for unit in ready:
                del left[unit]
                done |= bit[unit]
    return _schedule("greedy", graph, layout, stages)


def _schedule(method: str, graph: Graph, layout: str, stages: Sequence[tuple[int, list[list[int]]]]) -> Schedule:
    factory = StageFactory(graph, layout)
    scheduled = []
    for part, groups in stages:
        placed = factory.make(groups)
        names = tuple(tuple(graph.units[unit].name for unit in group) for group in placed.groups)
        scheduled.append(ScheduledStage(part, "concurrent", names, placed.key))
    return Schedule(tuple(scheduled), method)
