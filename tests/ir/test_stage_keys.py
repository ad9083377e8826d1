"""Keys are the same for isomorphic stages and differ for anything that can change a latency."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory, canonical_stage
from iosfarm.ir.stage import Stage

from ir_strategies import graph_of, moved, placements, renamed  # isort: skip - beside this file

Placement = tuple[Graph, list[list[int]]]


# -- invariance --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(placements(), st.integers(0, 2**32))
def test_names_and_orders_do_not_matter(placement: Placement, seed: int) -> None:
    graph, groups = placement
    other, units = renamed(graph, seed)
    theirs = moved(graph, other, groups, units)
    rng = random.Random(seed)
    rng.shuffle(theirs)
    for group in theirs:
        rng.shuffle(group)
    assert canonical_stage(other, theirs).stage == canonical_stage(graph, groups).stage


@settings(max_examples=100, deadline=None)
@given(placements())
def test_canonical_form_is_a_fixed_point(placement: Placement) -> None:
    stage = canonical_stage(*placement).stage
    again = canonical_stage(*graph_of(stage)).stage
    assert again.canonical == stage.canonical


@settings(max_examples=100, deadline=None)
@given(placements())
def test_text_round_trip(placement: Placement) -> None:
    stage = canonical_stage(*placement).stage
    assert Stage.from_json(stage.canonical) == stage


@settings(max_examples=100, deadline=None)
@given(placements())
def test_placed_stage_fits_its_graph(placement: Placement) -> None:
    graph, groups = placement
    placed = canonical_stage(graph, groups)
    assert sorted(map(sorted, placed.groups)) == sorted(map(sorted, groups))
    assert [graph.shape(name) for name in placed.inputs] == list(placed.stage.inputs)
    names = [name for group in placed.groups for unit in group for name in graph.units[unit].operators]
    number = {name: i for i, name in enumerate(names)}
    outside = {name: -1 - i for i, name in enumerate(placed.inputs)}
    for name, operator in zip(names, placed.stage.operators, strict=True):
        source = graph.operator(name)
        assert (operator.kind, operator.attributes) == (source.kind, source.attributes)
        assert operator.shape == graph.shape(name)
        assert operator.references == tuple(number.get(i, outside.get(i)) for i in source.inputs)
        assert all(reference < number[name] for reference in operator.references)


@settings(max_examples=50, deadline=None)
@given(placements(most=6))
def test_position_in_a_bigger_model_does_not_matter(placement: Placement) -> None:
    graph, groups = placement
    stage = canonical_stage(graph, groups).stage
    small, small_groups = graph_of(stage)
    # The same operators again, behind an operator of their own for each input, and with a reader behind.
    b = GraphBuilder("bigger")
    values: dict[str, Value] = {i.name: b.relu(b.conv2d(b.input((2, 4, 4)), 4, 1)) for i in small.inputs}
    for unit in small.units:
        with b.unit(unit.name):
            for name in unit.operators:
                o = small.operator(name)
                attributes: dict[str, Any] = dict(o.attributes)
                values[name] = b.operator(o.kind, [values[i] for i in o.inputs], **attributes)
    big = b.build(b.concat(*(values[name] for name in small.outputs)))
    index = {unit.name: i for i, unit in enumerate(big.units)}
    again = canonical_stage(big, [[index[small.units[u].name] for u in group] for group in small_groups])
    assert again.stage.key == stage.key


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_twins(count: int, depth: int, shared: bool) -> None:
    def build(order: list[int]) -> Stage:
        b = GraphBuilder("twins")
        inputs = [b.input((4, 4, 4)) for _ in range(1 if shared else count)]
        ends = []
        for i in order:
            x = inputs[0 if shared else i]
            for _ in range(depth):
                x = b.conv2d(x, 4, 1)
            ends.append(x)
        graph = b.build(*ends)
        # Where units stand in the graph's order depends on names and on the order of building; take them by reading.
        groups = []
        for end in ends:
            unit = graph.unit_of[end]
            group = [unit]
            while graph.unit_predecessors[unit]:
                (unit,) = graph.unit_predecessors[unit]
                group.append(unit)
            groups.append(group)
        return canonical_stage(graph, groups).stage

    stages = [build(random.Random(seed).sample(range(count), count)) for seed in range(4)]
    assert len({stage.key for stage in stages}) == 1
    assert len(stages[0].groups) == count


def test_symmetric_ladder() -> None:
    """Two inputs alike, and operators that differ only in whether they read one of them twice."""
    keys = set()
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        b = GraphBuilder("ladder")
        x, y = b.input((4, 4, 4)), b.input((4, 4, 4))
        pairs = [(x, x), (x, y), (y, x), (y, y)]
        for i in order:
            b.add(*pairs[i])
        keys.add(canonical_stage(b.build("add_1"), [[0], [1], [2], [3]]).stage.key)
    assert len(keys) == 1


# -- sensitivity -------------------------------------------------------------------------------------------------


def one(build: Callable[[GraphBuilder, Value], Value], shape: tuple[int, ...] = (8, 12, 12), **bind: object) -> Stage:
    b = GraphBuilder("one")
    graph = b.build(build(b, b.input(shape))).bind(**bind)  # type: ignore[arg-type]
    return canonical_stage(graph, [list(range(len(graph.units)))]).stage


CONVOLUTION = {"kernel": 3, "stride": 1, "padding": 2, "dilation": 1, "groups": 1, "bias": True, "activation": "none"}
CHANGES: dict[str, Callable[[GraphBuilder, Value], Value]] = {
    "base": lambda b, x: b.conv2d(x, 8, **CONVOLUTION),  # type: ignore[arg-type]
    **{
        f"conv2d-{name}-{value}": lambda b, x, n=name, v=value: b.conv2d(x, 8, **{**CONVOLUTION, n: v})  # type: ignore[misc]
        for name, values in {
            "kernel": ((3, 1), (1, 3), 1),
            "stride": ((1, 2), (2, 1)),
            "padding": ((2, 1), (1, 2)),
            "dilation": ((1, 2), (2, 1)),
            "groups": (2, 8),
            "bias": (False,),
            "activation": ("relu", "relu6"),
        }.items()
        for value in values
    },
    "conv2d-out_channels": lambda b, x: b.conv2d(x, 16, **CONVOLUTION),  # type: ignore[arg-type]
    "max_pool": lambda b, x: b.max_pool(x, 3, stride=2),
    "max_pool-ceil": lambda b, x: b.max_pool(x, 3, stride=2, ceil_mode=True),
    "avg_pool": lambda b, x: b.avg_pool(x, 3, stride=2, padding=1),
    "avg_pool-count": lambda b, x: b.avg_pool(x, 3, stride=2, padding=1, count_include_pad=False),
    "relu": lambda b, x: b.relu(x),
    "leaky_relu": lambda b, x: b.operator("leaky_relu", [x]),
    "leaky_relu-slope": lambda b, x: b.operator("leaky_relu", [x], negative_slope=0.2),
    "pad": lambda b, x: b.pad(x, (1, 0, 0, 0)),
    "pad-side": lambda b, x: b.pad(x, (0, 1, 0, 0)),
    "pad-mode": lambda b, x: b.pad(x, (1, 0, 0, 0), mode="reflect"),
    "pad-value": lambda b, x: b.pad(x, (1, 0, 0, 0), value=1.0),
    "slice": lambda b, x: b.slice(x, 0, 4),
    "slice-start": lambda b, x: b.slice(x, 4, 8),
    "add-same": lambda b, x: b.add(x, x),
    "add-thrice": lambda b, x: b.add(x, x, x),
    "mul-same": lambda b, x: b.mul(x, x),
    "concat-same": lambda b, x: b.concat(x, x),
}  # fmt: skip


def test_every_attribute_makes_another_key() -> None:
    keys = {name: one(build).key for name, build in CHANGES.items()}
    assert len(set(keys.values())) == len(CHANGES)


def test_shape_batch_dtype_layout_and_strategy_make_another_key() -> None:
    base = CHANGES["base"]
    b = GraphBuilder("pair")
    x = b.input((8, 12, 12))
    pair = b.build(b.conv2d(x, 8, 1), b.conv2d(x, 8, 1))
    b = GraphBuilder("three")
    x = b.input((8, 12, 12))
    three = b.build(b.conv2d(x, 8, 1), b.conv2d(x, 8, 1), b.relu(x))
    stages = [
        one(base),
        one(base, (8, 12, 13)),
        one(base, (8, 13, 12)),
        one(base, (16, 12, 12)),
        one(base, batch=2),
        one(base, dtype="float16"),
        one(base, dtype="bfloat16"),
        canonical_stage(_graph(base), [[0]], layout="nchw").stage,
        canonical_stage(pair, [[0], [1]]).stage,
        canonical_stage(pair, [[0], [1]], "merge").stage,
        canonical_stage(pair, [[0], [1]], layout="nchw").stage,
        canonical_stage(pair, [[0, 1]]).stage,
        canonical_stage(three, [[0, 1], [2]]).stage,
        canonical_stage(three, [[0, 1], [2]], "mixed").stage,
        canonical_stage(pair, [[0]]).stage,
    ]
    assert len({stage.key for stage in stages}) == len(stages)


def _graph(build: Callable[[GraphBuilder, Value], Value]) -> Graph:
    b = GraphBuilder("one")
    return b.build(build(b, b.input((8, 12, 12))))


def test_sharing_of_inputs_makes_another_key() -> None:
    def convolutions(sources: tuple[int, ...]) -> str:
        b = GraphBuilder("sharing")
        x = [b.input((4, 4, 4)) for _ in range(3)]
        graph = b.build(*(b.conv2d(x[i], 4, 1) for i in sources))
        return canonical_stage(graph, [[i] for i in range(len(sources))]).stage.key

    assert convolutions((0, 0)) != convolutions((0, 1))
    assert convolutions((0, 1)) == convolutions((2, 0))
    assert len({convolutions(s) for s in ((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 2))}) == 4
    assert convolutions((0, 1, 1)) == convolutions((2, 0, 2))


def test_edges_make_another_key() -> None:
    def cell(edges: tuple[int, int, int]) -> str:
        b = GraphBuilder("edges")
        x = b.input((4, 4, 4))
        values = [x, b.relu(x)]
        for source in edges:
            values.append(b.add(values[source], values[1]))
        graph = b.build(values[-1])
        return canonical_stage(graph, [list(range(len(graph.units)))]).stage.key

    assert len({cell(edges) for edges in ((0, 0, 0), (0, 0, 2), (0, 2, 3), (0, 2, 2), (1, 2, 3))}) == 5


def test_grouping_and_units_make_another_key() -> None:
    def chain(unit: bool) -> Graph:
        b = GraphBuilder("chain")
        x = b.input((4, 4, 4))
        if unit:
            with b.unit():
                y = b.relu(b.conv2d(x, 4, 1))
        else:
            y = b.relu(b.conv2d(x, 4, 1))
        return b.build(y, b.relu(b.conv2d(x, 4, 1)))

    assert canonical_stage(chain(True), [[0]]).stage.key != canonical_stage(chain(False), [[0, 1]]).stage.key
    factory = StageFactory(chain(False), "nhwc")
    assert factory.make([[0, 1], [2, 3]]).stage.key != factory.make([[0, 1, 2, 3]]).stage.key


def test_operators_of_a_unit_need_not_touch() -> None:
    """Which operators share a unit counts even where no edge says so."""

    def pairs(swapped: bool) -> Stage:
        b = GraphBuilder("units")
        x, y = b.input((4, 4, 4)), b.input((4, 4, 4))
        with b.unit():
            b.relu(x)
            b.conv2d(y if swapped else x, 4, 1)
        with b.unit():
            b.relu(y)
            b.conv2d(x if swapped else y, 4, 1)
        return canonical_stage(b.build("conv2d_1", "conv2d_2"), [[0, 1]]).stage

    assert pairs(swapped=True).key != pairs(swapped=False).key


def test_longest_group_comes_first() -> None:
    b = GraphBuilder("order")
    x = b.input((16, 8, 8))
    graph = b.build(b.relu(x), b.conv2d(x, 64, 3, padding=1), b.conv2d(x, 8, 1))
    stage = canonical_stage(graph, [[0], [1], [2]]).stage
    assert stage.groups[0][0].operators[0].shape[1] == 64
    work = [sum(stage.flops(o) for unit in group for o in unit.operators) for group in stage.groups]
    assert work == sorted(work, reverse=True)
