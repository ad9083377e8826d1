"""The baselines of every network of the zoo, and of random graphs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.parts import Part, cut
from iosfarm.zoo import load
from iosfarm.zoo.registry import NETWORKS

from search_graphs import graphs, parallel  # isort: skip - beside this file


def check(graph: Graph, parts: list[Part]) -> None:
    one_by_one, at_once = sequential(graph, parts, "nhwc"), greedy(graph, parts, "nhwc")
    for schedule in (one_by_one, at_once):
        placed = schedule.place(graph, "nhwc")  # refuses what is not valid
        assert [p.stage.key for p in placed] == [s.key for s in schedule.stages]
        assert [s.part for s in schedule.stages] == sorted(s.part for s in schedule.stages)
    assert (one_by_one.method, at_once.method) == ("sequential", "greedy")
    assert len(one_by_one.stages) == len(graph.units)
    check_greedy(graph, parts, at_once)


def check_greedy(graph: Graph, parts: list[Part], schedule: Schedule) -> None:
    """One unit a group, none waits for another of its stage, and none could have run a stage earlier."""
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    position = {index[group[0]]: n for n, stage in enumerate(schedule.stages) for group in stage.groups}
    assert all(len(group) == 1 for stage in schedule.stages for group in stage.groups)
    for part in parts:
        first = min(position[unit] for unit in part.units)
        for unit in part.units:
            inside = [position[p] for p in graph.unit_predecessors[unit] if p in part.units]
            assert position[unit] == max(inside, default=first - 1) + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    graph = load(name)
    check(graph, cut(graph))


@settings(max_examples=60, deadline=None)
@given(graphs(10))
def test_random_graph(graph: Graph) -> None:
    check(graph, cut(graph))
    check(graph, cut(graph, max_part_size=2))


def test_greedy_by_hand() -> None:
    graph = parallel([1, 3])
    groups = [stage.groups for stage in greedy(graph, cut(graph), "nhwc").stages]
    assert groups[0] == (("relu_1",),)
    assert sorted(groups[1]) == [("conv2d_1",), ("conv2d_2",)]
    assert groups[2:] == [(("conv2d_3",),), (("conv2d_4",),), (("concat_1",),)]
