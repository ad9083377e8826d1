"""A small network to refine, what its stages cost, and how schedules are written down."""

from __future__ import annotations

from collections.abc import Callable

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.ir.stage import Stage

Groups = tuple[tuple[str, ...], ...]

Written = tuple[int, str, str]
"""A part, a strategy, and groups: `a b|c` are two."""


def staged(*stages: Written) -> Schedule:
    return Schedule(tuple(ScheduledStage(p, s, tuple(tuple(g.split()) for g in t.split("|"))) for p, s, t in stages))


def written(schedule: Schedule) -> set[tuple[str, frozenset[frozenset[str]]]]:
    return {(s.strategy, frozenset(map(frozenset, s.groups))) for s in schedule.stages}


def plain(stage: Stage) -> float:
    """Seconds: each stage costs 1 and each operator 10; groups do not help each other at all, nor does merging."""
    return 1.0 + 10.0 * len(list(stage.operators)) + 1.5 * (len(stage.groups) - 1)


def favouring(graph: Graph, strategy: str, groups: str) -> Callable[[Stage], float]:
    """`plain`, but for one stage that costs half of it."""
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    chosen = [[index[name] for name in group.split()] for group in groups.split("|")]
    key = canonical_stage(graph, chosen, strategy).key
    return lambda stage: plain(stage) / (2 if stage.key == key else 1)


def network() -> Graph:
    """stem -> (one, three, pool -> tail), one -> last; and a second input that other reads."""
    b = GraphBuilder("net")
    stem = b.conv2d(b.input((8, 8, 8)), 8, 1, name="stem")
    one = b.conv2d(stem, 4, 1, name="one")
    three = b.conv2d(stem, 6, 3, padding=1, name="three")
    pool = b.operator("max_pool", [stem], name="pool", kernel=(3, 3), padding=(1, 1))
    tail = b.operator("relu", [pool], name="tail")
    last = b.conv2d(one, 4, 3, name="last")
    other = b.operator("sigmoid", [b.input((8, 8, 8))], name="other")
    return b.build(three, tail, last, other)


CONCURRENT, MERGE, MIXED = "concurrent", "merge", "mixed"
START = (0, CONCURRENT, "stem")


def check(graph: Graph, schedule: Schedule, cost: Callable[[Stage], float]) -> None:
    for stage, item in zip(schedule.stages, schedule.place(graph, "nhwc"), strict=True):
        assert (stage.key, stage.predicted) == (item.key, cost(item.stage))
