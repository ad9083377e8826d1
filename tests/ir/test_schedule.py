"""Schedules are placed on their graph, or refused with the stage and the unit that does not fit."""

from __future__ import annotations

import pytest

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Certificate, Schedule, ScheduledStage
from iosfarm.ir.stage import Stage


def network() -> Graph:
    """stem -> (one, three -> tail) -> join."""
    b = GraphBuilder("net")
    stem = b.conv2d(b.input((8, 6, 6)), 8, 1, name="stem")
    one = b.conv2d(stem, 4, 1, name="one")
    three = b.conv2d(stem, 4, 3, padding=1, name="three")
    tail = b.operator("relu", [three], name="tail")
    return b.build(b.operator("concat", [one, tail], name="join"))


def concurrent(*groups: str) -> ScheduledStage:
    return ScheduledStage(0, "concurrent", tuple(tuple(group.split()) for group in groups))


def merge(*groups: str) -> ScheduledStage:
    return ScheduledStage(0, "merge", tuple(tuple(group.split()) for group in groups))


def mixed(*groups: str) -> ScheduledStage:
    return ScheduledStage(0, "mixed", tuple(tuple(group.split()) for group in groups))


def branches() -> Graph:
    """stem -> (one, three, pool -> tail)."""
    b = GraphBuilder("branches")
    stem = b.conv2d(b.input((8, 6, 6)), 8, 1, name="stem")
    one = b.conv2d(stem, 4, 1, name="one")
    three = b.conv2d(stem, 4, 3, padding=1, name="three")
    pool = b.operator("max_pool", [stem], name="pool", kernel=(3, 3), padding=(1, 1))
    return b.build(one, three, b.operator("relu", [pool], name="tail"))


GOOD = [
    (concurrent("stem"), concurrent("one", "three tail"), concurrent("join")),
    (concurrent("stem"), merge("one", "three"), concurrent("tail join")),
    (concurrent("stem one three tail join"),),
    (concurrent("join tail three one stem"),),
    (concurrent("stem"), concurrent("one", "three"), concurrent("tail"), concurrent("join")),
]


@pytest.mark.parametrize("stages", GOOD)
def test_placed(stages: tuple[ScheduledStage, ...]) -> None:
    graph = network()
    placed = Schedule(stages).place(graph, "nhwc")
    assert len(placed) == len(stages)
    for stage, item in zip(stages, placed, strict=True):
        names = sorted(sorted(graph.units[u].name for u in group) for group in item.groups)
        assert names == sorted(sorted(group) for group in stage.groups)
        assert (item.stage.strategy, item.stage.layout) == (stage.strategy, "nhwc")
        # Whatever order a group is written in, it runs in one that works.
        for group in item.groups:
            assert all(p not in group[i:] for i, u in enumerate(group) for p in graph.unit_predecessors[u])


def test_a_stage_is_the_same_wherever_it_is_written() -> None:
    first = Schedule((concurrent("stem"), concurrent("one", "three tail"), concurrent("join"))).place(network(), "nhwc")
    second = Schedule((concurrent("stem"), concurrent("tail three", "one"), concurrent("join"))).place(
        network(), "nhwc"
    )
    assert [item.key for item in first] == [item.key for item in second]


REST = (concurrent("one", "three tail"), concurrent("join"))
BAD: list[tuple[tuple[ScheduledStage, ...], str]] = [
    ((), "net: the unit 'stem' is in no stage; the schedule is incomplete"),
    ((concurrent("stem"), concurrent("one"), concurrent("three tail")), "net: the unit 'join' is in no stage"),
    ((concurrent("stem"), concurrent("two")), "stage 1: net has no unit 'two'; is this another graph?"),
    ((concurrent("stem"), concurrent("stem"), *REST), "stage 1: the unit 'stem' is scheduled twice"),
    ((concurrent("stem stem"), *REST), "stage 0: the unit 'stem' is scheduled twice"),
    ((concurrent("stem", "stem"), *REST), "stage 0: the unit 'stem' is scheduled twice"),
    ((concurrent("one"),), "stage 0: 'one' needs 'stem', which has not run"),
    ((concurrent("stem", "one"),), "stage 0: 'one' needs 'stem', which has not run"),
    ((concurrent("one", "stem"),), "stage 0: 'one' needs 'stem', which has not run"),
    ((concurrent("stem"), concurrent("one join")), "stage 1: 'join' needs 'tail', which has not run"),
    ((concurrent("stem", ""),), "stage 0: an empty group"),
    ((ScheduledStage(0, "concurrent", ()),), "stage 0: an empty group"),
    ((ScheduledStage(0, "parallel", (("stem",),)),), "stage 0: unknown strategy 'parallel'; use one of"),
    ((concurrent("stem"), merge("one three")), "stage 1: a merge stage has one unit a group"),
    ((merge("stem"),), "stage 0: these units cannot be merged into one convolution"),
    ((concurrent("stem three"), merge("one", "tail")), "stage 1: these units cannot be merged into one convolution"),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "line"), BAD, ids=[line for _, line in BAD])
def test_refused(stages: tuple[ScheduledStage, ...], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        Schedule(stages).place(network(), "nhwc")
    assert str(caught.value).startswith(line)


def test_mixed_is_placed() -> None:
    stages = (concurrent("stem"), mixed("pool tail", "three one"))
    _, item = Schedule(stages).place(branches(), "nhwc")
    assert item.stage.strategy == "mixed"
    assert [(stream.merged, len(stream.units)) for stream in item.stage.streams] == [(True, 2), (False, 2)]
    assert item.stage.describe() == "conv2d 1x1 8→4 + conv2d 3x3 8→4 | max_pool 3x3, relu"
    assert Stage.from_json(item.canonical).key == item.key
    concurrently = Schedule((concurrent("stem"), concurrent("pool tail", "three one"))).place(branches(), "nhwc")
    assert concurrently[1].key != item.key
    assert not any(stream.merged for stream in concurrently[1].stage.streams)


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (mixed("one three"), "stage 1: a mixed stage has two or more groups; one merged group is a merge"),
        (mixed("one", "three", "pool tail"), "stage 1: no group of this mixed stage can be merged; use concurrent"),
        (mixed("one pool", "three"), "stage 1: no group of this mixed stage can be merged"),
        (mixed("one three", "tail"), "stage 1: 'tail' needs 'pool', which has not run"),
    ],
)
def test_mixed_is_refused(stage: ScheduledStage, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        Schedule((concurrent("stem"), stage)).place(branches(), "nhwc")
    assert str(caught.value).startswith(line)


def test_unknown_layout_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown layout 'nwhc'; use one of nchw, nhwc"):
        Schedule(GOOD[0]).place(network(), "nwhc")


def test_predicted_latency_is_a_sum_or_unknown() -> None:
    known = ScheduledStage(0, "concurrent", (("a",),), predicted=0.25)
    assert Schedule((known, known)).predicted == 0.5
    assert Schedule((known, concurrent("b"))).predicted is None
    assert Schedule(()).predicted == 0


@pytest.mark.parametrize(
    ("lower", "upper", "gap"), [(1.0, 1.5, 0.5), (2.0, 2.0, 0.0), (2.0, 1.0, 0.0), (0.0, 1.0, float("inf"))]
)
def test_gap_is_relative_to_the_lower_bound(lower: float, upper: float, gap: float) -> None:
    assert Certificate("structural", lower, upper).gap == gap
