"""Units: the rules by name, on graphs that are just large enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.frontends.units import MAX_OPERATORS, form_units
from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.zoo.registry import NETWORKS


def units(build: Callable[[GraphBuilder, Value], Value | tuple[Value, ...]]) -> set[tuple[str, ...]]:
    """The units of a network that reads an image, as the kinds of their operators."""
    b = GraphBuilder("g")
    outputs = build(b, b.input((8, 12, 12)))
    graph = form_units(b.build(*([outputs] if isinstance(outputs, str) else outputs)))
    return {tuple(graph.operator(name).kind for name in unit.operators) for unit in graph.units}


def separable(b: GraphBuilder, x: Value) -> Value:
    return b.conv2d(b.depthwise(b.relu(b.add(x, b.max_pool(x, 1))), 3, padding=1), 16, 1)


def squeeze(b: GraphBuilder, x: Value) -> Value:
    y = b.conv2d(x, 8, 3, padding=1)
    gate = b.conv2d(b.conv2d(b.global_avg_pool(y), 2, 1, activation="relu"), 8, 1, activation="sigmoid")
    return b.mul(y, gate)


def preactivated(b: GraphBuilder, x: Value) -> Value:
    y = b.max_pool(x, 1)
    return b.concat(y, b.conv2d(b.batch_norm(y, activation="relu"), 4, 3, padding=1))


def moved(b: GraphBuilder, x: Value) -> Value:
    y = b.operator("transpose", [b.operator("reshape", [x], shape=(-1, 2, 4, 12, 12))], axes=(0, 2, 1, 3, 4))
    return b.conv2d(b.operator("reshape", [y], shape=(-1, 8, 12, 12)), 4, 1)


def scaled(b: GraphBuilder, x: Value) -> Value:
    return b.operator("scale", [b.activation(b.conv2d(x, 4, 1), "leaky_relu")], shape=(4, 1, 1))


def branches(b: GraphBuilder, x: Value) -> Value:
    return b.concat(b.conv2d(x, 4, 1), b.conv2d(x, 4, 3, padding=1), b.relu(b.conv2d(x, 4, 1, bias=False)))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (separable, {("max_pool",), ("add", "relu", "conv2d", "conv2d")}),
        (squeeze, {("conv2d",), ("global_avg_pool", "conv2d", "conv2d"), ("mul",)}),
        (preactivated, {("max_pool",), ("batch_norm", "conv2d"), ("concat",)}),
        (moved, {("reshape", "transpose", "reshape", "conv2d")}),
        (scaled, {("conv2d", "leaky_relu", "scale")}),
        (branches, {("conv2d",), ("conv2d", "relu"), ("concat",)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_rules(build: Callable[[GraphBuilder, Value], Value], expected: set[tuple[str, ...]]) -> None:
    assert units(build) == expected


def test_what_others_read_is_not_joined() -> None:
    def build(b: GraphBuilder, x: Value) -> tuple[Value, ...]:
        y = b.conv2d(x, 8, 3, padding=1, groups=8)
        return b.conv2d(y, 4, 1), b.relu(y)

    assert units(build) == {("conv2d",), ("relu",)}

    def output(b: GraphBuilder, x: Value) -> tuple[Value, ...]:
        y = b.conv2d(x, 8, 3, padding=1, groups=8)
        return b.conv2d(y, 4, 1), y

    assert units(output) == {("conv2d",)}


KINDS = ("conv", "depthwise", "pointwise", "relu", "leaky_relu", "add", "concat", "norm", "slice", "mul")


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=24)
)
def test_any_graph_keeps_its_operators(steps: list[tuple[str, int, int]]) -> None:
    b = GraphBuilder("g")
    values = [b.input((4, 6, 6))]
    for kind, i, j in steps:
        x, y = values[i % len(values)], values[j % len(values)]
        make: dict[str, Callable[[], Value]] = {
            "conv": lambda x=x: b.conv2d(x, 4, 3, padding=1),
            "depthwise": lambda x=x: b.depthwise(x, 3, padding=1),
            "pointwise": lambda x=x: b.conv2d(x, 4, 1),
            "relu": lambda x=x: b.relu(x),
            "leaky_relu": lambda x=x: b.activation(x, "leaky_relu"),
            "add": lambda x=x, y=y: b.add(x, y),
            "concat": lambda x=x, y=y: b.conv2d(b.concat(x, y), 4, 1),
            "norm": lambda x=x: b.batch_norm(x),
            "slice": lambda x=x, y=y: b.concat(b.slice(x, 0, 2), b.slice(y, 2, 4)),
            "mul": lambda x=x, y=y: b.mul(x, b.global_avg_pool(y)),
        }  # type: ignore[dict-item]
        values.append(make[kind]())
    graph = form_units(b.build(values[-1], values[len(values) // 2]))
    assert sorted(name for unit in graph.units for name in unit.operators) == sorted(o.name for o in graph.operators)
    assert all(len(unit.operators) <= MAX_OPERATORS for unit in graph.units)
    assert Graph.from_json(graph.to_json()) == graph
    assert form_units(graph) == graph


@pytest.mark.parametrize("name", ["nasnet_large", "inception_v3", "randwire"])
def test_networks_of_the_zoo(name: str) -> None:
    """Units found by rule are much like those that the zoo's authors made by hand."""
    graph = NETWORKS[name].factory()
    assert abs(len(form_units(graph).units) - len(graph.units)) <= 0.1 * len(graph.units)
