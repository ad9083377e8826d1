"""The same network under other names is recognised, and another one is not."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.deploy.isomorphism import corresponding_units
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.zoo import load
from iosfarm.zoo.registry import NETWORKS

from conformance import block, mixing  # isort: skip - of tests/kernels
from ir_strategies import graphs, renamed  # isort: skip - of tests/ir


def moved(schedule: Schedule, units: dict[str, str]) -> Schedule:
    """A schedule under other names."""
    stages = [
        dataclasses.replace(stage, groups=tuple(tuple(units[name] for name in group) for group in stage.groups))
        for stage in schedule.stages
    ]
    return Schedule(tuple(stages), schedule.method)


def keys(graph: Graph, schedule: Schedule) -> list[str]:
    return [placed.key for placed in schedule.place(graph, "nhwc")]


@settings(max_examples=100, deadline=None)
@given(graphs(most=14), st.integers(0, 999))
def test_any_graph_under_other_names(graph: Graph, seed: int) -> None:
    other, _ = renamed(graph, seed)
    units = corresponding_units(graph, other)
    assert units is not None
    assert sorted(units) == sorted(unit.name for unit in graph.units)
    assert sorted(units.values()) == sorted(unit.name for unit in other.units)
    # Any sequential schedule has the same stages on both.
    schedule = Schedule(tuple(ScheduledStage(0, "concurrent", ((unit.name,),)) for unit in graph.units))
    assert keys(graph, schedule) == keys(other, moved(schedule, units))


@settings(max_examples=100, deadline=None)
@given(graphs(most=6), graphs(most=6), st.integers(0, 999))
def test_what_is_recognised_is_the_same(graph: Graph, other: Graph, seed: int) -> None:
    other, _ = renamed(other, seed)
    units = corresponding_units(graph, other)
    schedule = Schedule(tuple(ScheduledStage(0, "concurrent", ((unit.name,),)) for unit in graph.units))
    if units is not None:
        assert keys(graph, schedule) == keys(other, moved(schedule, units))
        assert len(graph.outputs) == len(other.outputs)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_of_the_zoo(name: str) -> None:
    graph = load(name)
    other, _ = renamed(graph, 3)
    units = corresponding_units(graph, other)
    assert units is not None
    assert len(set(units.values())) == len(graph.units)


def test_a_schedule_moves_with_its_merges() -> None:
    graph = block()
    other, _ = renamed(graph, 1)
    units = corresponding_units(graph, other)
    assert units is not None
    assert keys(graph, mixing(graph)) == keys(other, moved(mixing(graph), units))


def test_what_differs_is_not_recognised() -> None:
    graph = load("squeezenet")
    assert corresponding_units(graph, load("squeezenet", image_size=192)) is None
    assert corresponding_units(graph, graph.bind(batch=2)) is None
    assert corresponding_units(graph, load("inception_v3")) is None
    alone = Graph(graph.name, graph.inputs, graph.operators, graph.outputs)  # without the units
    assert (corresponding_units(graph, alone) is None) == (len(alone.units) != len(graph.units))
