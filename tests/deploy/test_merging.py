"""Graphs with real merged convolutions: the same function, fewer convolutions, no slices that a concat undoes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.deploy.merging import merged_graph
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule, ScheduledStage, mergeable
from iosfarm.kernels.reference import run_graph

from conformance import SCHEDULES, block  # isort: skip - of tests/kernels
from numerics_cases import graph_weights, random_inputs, relative_error  # isort: skip


@st.composite
def merges(draw: st.DrawFn) -> tuple[Graph, Schedule]:
    """Convolutions of one tensor, read by each other's readers in any way, and a schedule that merges some of them."""
    b = GraphBuilder("random")
    x = b.input((3, draw(st.integers(5, 8)), draw(st.integers(5, 8))))
    stride = draw(st.integers(1, 2))
    values = []
    for number in range(draw(st.integers(2, 5))):
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 1)]))
        values.append(
            b.conv2d(
                x,
                draw(st.integers(1, 4)),
                kernel,
                stride=stride,
                padding=(kernel[0] // 2, kernel[1] // 2),
                activation=draw(st.sampled_from(["relu", "relu", "none"])),
                bias=draw(st.booleans()),
                name=f"c{number}",
            )
        )
    joined = [b.concat(*draw(st.lists(st.sampled_from(values), min_size=1, max_size=6))) for _ in range(2)]
    outputs = [*joined, *draw(st.lists(st.sampled_from(values), max_size=2, unique=True))]
    graph = b.build(*outputs)
    left = [number for number, unit in enumerate(graph.units) if unit.name in values]
    stages = []
    while left:
        group = [u for u in left if draw(st.booleans())]
        if not mergeable(graph, group):
            group = left[:1]
        groups = tuple((graph.units[u].name,) for u in group)
        stages.append(ScheduledStage(0, "merge" if len(group) > 1 else "concurrent", groups))
        left = [u for u in left if u not in group]
    stages += [ScheduledStage(0, "concurrent", ((u.name,),)) for u in graph.units if u.name not in values]
    return graph, Schedule(tuple(stages))


def check(graph: Graph, schedule: Schedule, seed: int = 0) -> Graph:
    """The merged graph, after comparing it with the graph."""
    rng = np.random.default_rng(seed)
    weights = graph_weights(graph, rng)
    inputs = random_inputs(tuple(graph.shape(item.name) for item in graph.inputs), rng)
    merged, values = merged_graph(graph, schedule, weights)
    assert (merged.inputs, merged.outputs) == (graph.inputs, graph.outputs)
    assert set(values) == {f"{o.name}.{p}" for o in merged.operators for p in merged.parameters(o)}
    expected, actual = run_graph(graph, weights, inputs), run_graph(merged, values, inputs)
    assert all(relative_error(a, e) < 1e-6 for a, e in zip(actual, expected, strict=True))
    return merged


def count(graph: Graph, kind: str) -> int:
    return sum(operator.kind == kind for operator in graph.operators)


@settings(max_examples=60, deadline=None)
@given(merges(), st.integers(0, 99))
def test_any_merges_compute_the_same(case: tuple[Graph, Schedule], seed: int) -> None:
    graph, schedule = case
    merged = check(graph, schedule, seed)
    away = sum(len(stage.groups) - 1 for stage in schedule.stages if stage.strategy == "merge")
    assert count(merged, "conv2d") == count(graph, "conv2d") - away
    read = {name for operator in merged.operators for name in operator.inputs} | set(merged.outputs)
    assert all(operator.name in read for operator in merged.operators if operator.kind == "slice")


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_the_conformance_suite(name: str) -> None:
    merged = check(block(), SCHEDULES[name](block()))
    assert count(block(), "conv2d") - count(merged, "conv2d") == {"merging": 2, "mixing": 1}.get(name, 0)


def one_merge(order: Sequence[int], *others: int) -> Graph:
    """Three convolutions in one stage, which a concat reads in some order, and some of which are outputs too."""
    b = GraphBuilder("three")
    x = b.input((4, 6, 6))
    values = [b.conv2d(x, channels, 1, name=f"c{channels}") for channels in (2, 3, 5)]
    return b.build(b.concat(*[values[i] for i in order], x), *[values[i] for i in others])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_concat_reads_what_was_merged_without_cutting_it(order: Sequence[int]) -> None:
    graph = one_merge(order)
    merge = ScheduledStage(0, "merge", (("c3",), ("c5",), ("c2",)))
    schedule = Schedule((merge, ScheduledStage(0, "concurrent", (("concat_1",),))))
    merged = check(graph, schedule)
    assert [operator.kind for operator in merged.operators] == ["conv2d", "concat"]
    assert len(merged.operator("concat_1").inputs) == 2


def test_what_is_an_output_is_cut_out() -> None:
    graph = one_merge((0, 1, 2), 1)
    merge = ScheduledStage(0, "merge", (("c2",), ("c3",), ("c5",)))
    merged = check(graph, Schedule((merge, ScheduledStage(0, "concurrent", (("concat_1",),)))))
    assert sorted(operator.kind for operator in merged.operators) == ["concat", "conv2d", "slice"]


def test_a_schedule_of_another_graph() -> None:
    with pytest.raises(UsageError, match="three has no unit 'stem'"):
        merged_graph(one_merge((0, 1, 2)), SCHEDULES["sequential"](block()), {})
