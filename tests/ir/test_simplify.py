"""Simplified graphs compute what the graphs did, with fewer operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.simplify import Array, simplify
from iosfarm.kernels.reference import run_graph


def random_weights(graph: Graph, dtype: type[np.floating] = np.float64) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {}
    for operator in graph.operators:
        for name, shape in graph.parameters(operator).items():
            values = rng.uniform(0.5, 2, shape) if name == "running_var" else rng.normal(size=shape)
            weights[f"{operator.name}.{name}"] = values.astype(dtype)
    return weights


def checked(graph: Graph) -> Graph:
    """The simplified graph, after comparing what both compute in float64."""
    weights = random_weights(graph)
    simple, remaining = simplify(graph, weights)
    needed = {f"{o.name}.{name}": shape for o in simple.operators for name, shape in simple.parameters(o).items()}
    assert {name: values.shape for name, values in remaining.items()} == needed
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=graph.shape(i.name)) for i in graph.inputs]
    assert simple.inputs == graph.inputs
    for ours, theirs in zip(run_graph(simple, remaining, inputs), run_graph(graph, weights, inputs), strict=True):
        assert ours.shape == theirs.shape
        assert np.allclose(ours.astype(float), theirs.astype(float), rtol=1e-9, atol=1e-9)
    without, nothing = simplify(graph)
    assert (without, nothing) == (simple, {})
    assert simplify(simple)[0] == simple
    return simple


def built(build: Callable[[GraphBuilder, Value], Value]) -> Graph:
    b = GraphBuilder("net")
    return checked(b.build(build(b, b.input((4, 6, 6), name="x"))).bind(batch=2))


def kinds(graph: Graph) -> list[str]:
    return [operator.kind for operator in graph.operators]


def units(graph: Graph) -> list[tuple[str, ...]]:
    return [unit.operators for unit in graph.units]


# -- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_and_activation_go_into_the_convolution(bias: bool, groups: int) -> None:
    graph = built(lambda b, x: b.relu(b.batch_norm(b.conv2d(x, 8, 3, groups=groups, bias=bias, name="c"), eps=0.1)))
    assert kinds(graph) == ["conv2d"]
    assert graph.operator("c").attributes["activation"] == "relu"
    assert graph.operator("c").attributes["bias"] is True
    assert graph.outputs == ("c",)


def test_batch_norm_brings_its_own_activation() -> None:
    graph = built(lambda b, x: b.batch_norm(b.conv2d(x, 8, 3, name="c"), activation="hard_swish"))
    assert graph.operator("c").attributes["activation"] == "hard_swish"


def test_dropout_is_removed_before_rules_look() -> None:
    graph = built(lambda b, x: b.dropout(b.relu(b.dropout(b.batch_norm(b.dropout(b.conv2d(x, 8, 3)))))))
    assert kinds(graph) == ["conv2d"]


def test_two_batch_norms_are_folded_one_after_the_other() -> None:
    assert kinds(built(lambda b, x: b.batch_norm(b.batch_norm(b.conv2d(x, 8, 3, bias=False))))) == ["conv2d"]


@pytest.mark.parametrize(
    "first",
    [
        lambda b, x: b.add(x, x),
        lambda b, x: b.mul(x, x),
        lambda b, x: b.batch_norm(x),
        lambda b, x: b.conv2d(x, 3, 1),
        lambda b, x: b.linear(b.flatten(x), 3),
    ],
)
@pytest.mark.parametrize("kind", ["relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "hard_sigmoid", "hard_swish"])
def test_activation_is_fused(first: Callable[[GraphBuilder, Value], Value], kind: str) -> None:
    graph = built(lambda b, x: b.activation(first(b, x), kind))
    assert graph.operators[-1].attributes["activation"] == kind


@pytest.mark.parametrize("kind", ["elu", "leaky_relu"])
def test_activations_with_parameters_stay(kind: str) -> None:
    assert kinds(built(lambda b, x: b.activation(b.conv2d(x, 3, 1), kind))) == ["conv2d", kind]


def test_the_second_activation_stays() -> None:
    assert kinds(built(lambda b, x: b.relu(b.activation(b.conv2d(x, 3, 1), "tanh")))) == ["conv2d", "relu"]


def test_what_comes_before_an_activation_only_is_not_touched() -> None:
    assert kinds(built(lambda b, x: b.batch_norm(b.relu(b.conv2d(x, 3, 1))))) == ["conv2d", "batch_norm"]
    assert kinds(built(lambda b, x: b.relu(b.max_pool(x, 2)))) == ["max_pool", "relu"]
    assert kinds(built(lambda b, x: b.batch_norm(b.add(x, x)))) == ["add", "batch_norm"]


@pytest.mark.parametrize("kind", ["add", "mul", "concat"])
def test_a_combination_of_one_tensor_is_the_identity(kind: str) -> None:
    assert kinds(built(lambda b, x: b.conv2d(b.operator(kind, [x]), 3, 1))) == ["conv2d"]


def test_a_sum_of_one_tensor_with_activation_stays() -> None:
    assert kinds(built(lambda b, x: b.add(x, activation="relu"))) == ["add"]


# -- readers and outputs ---------------------------------------------------------------------------------------------


def test_a_second_reader_prevents_folding() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        y = b.conv2d(x, 4, 1)
        return b.add(b.batch_norm(y), b.relu(y), y)

    assert kinds(built(build)) == ["conv2d", "batch_norm", "relu", "add"]


def test_reading_twice_is_two_readers() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        y = b.conv2d(x, 4, 1)
        return b.mul(b.dropout(y), y)

    graph = built(build)
    assert kinds(graph) == ["conv2d", "mul"]
    assert graph.operators[1].inputs == ("conv2d_1", "conv2d_1")


def test_outputs_keep_what_they_show() -> None:
    b = GraphBuilder("net")
    x = b.input((4, 6, 6), name="x")
    y = b.conv2d(x, 4, 1, name="y")
    graph = checked(b.build(b.relu(y), y, b.dropout(y), b.dropout(x)))
    assert kinds(graph) == ["conv2d", "relu"]
    assert graph.outputs == ("relu_1", "y", "y", "x")


# -- units -----------------------------------------------------------------------------------------------------------


def test_a_removed_operator_leaves_its_unit() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        with b.unit("head"):
            y = b.dropout(b.max_pool(b.dropout(x), 2))
        return b.dropout(y)

    graph = built(build)
    assert [(unit.name, unit.operators) for unit in graph.units] == [("head", ("max_pool_1",))]


def test_fused_operators_stay_in_the_first_ones_unit() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        with b.unit("pair"):
            y = b.conv2d(b.max_pool(x, 2), 4, 1)
        return b.relu(b.batch_norm(y))

    assert units(built(build)) == [("max_pool_1", "conv2d_1")]


def test_fusing_inside_a_unit_keeps_its_output_last() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        with b.unit("cell"):
            y = b.conv2d(x, 4, 1)
            b.max_pool(x, 2)
            y = b.relu(b.batch_norm(y))
        return b.concat(y, y)

    assert units(built(build)) == [("max_pool_1", "conv2d_1"), ("concat_1",)]


def test_a_larger_unit_is_not_taken_apart() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        y = b.conv2d(x, 4, 1)
        with b.unit("next"):
            return b.conv2d(b.relu(y), 4, 1)

    assert units(built(build)) == [("conv2d_1",), ("relu_1", "conv2d_2")]


def test_an_identity_that_stands_for_the_middle_of_its_unit_stays() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        with b.unit("cell"):
            y = b.max_pool(x, 2)
            b.relu(y)
            return b.dropout(y)

    assert units(built(build)) == [("max_pool_1", "relu_1", "dropout_1")]


# -- weights ---------------------------------------------------------------------------------------------------------


def test_weights_keep_their_dtype_and_the_given_ones_are_not_changed() -> None:
    b = GraphBuilder("net")
    graph = b.build(b.batch_norm(b.conv2d(b.input((4, 6, 6)), 8, 3, bias=False, name="c")))
    weights = random_weights(graph, np.float32)
    kept = {name: values.copy() for name, values in weights.items()}
    _, folded = simplify(graph, weights)
    assert {values.dtype for values in folded.values()} == {np.dtype(np.float32)}
    assert weights.keys() == kept.keys()
    assert all((weights[name] == kept[name]).all() for name in kept)
    scale = kept["batch_norm_1.weight"].astype(np.float64) / np.sqrt(
        kept["batch_norm_1.running_var"].astype(np.float64) + 1e-5
    )
    exact = kept["c.weight"].astype(np.float64) * scale[:, None, None, None]
    np.testing.assert_array_equal(folded["c.weight"], exact.astype(np.float32))


def test_a_missing_weight_is_named() -> None:
    b = GraphBuilder("net")
    graph = b.build(b.batch_norm(b.conv2d(b.input((4, 6, 6)), 8, 3, name="c")))
    weights = random_weights(graph)
    del weights["batch_norm_1.running_mean"]
    with pytest.raises(UsageError, match=r"folding 'batch_norm_1': the weight 'batch_norm_1\.running_mean' is missing"):
        simplify(graph, weights)


# -- anything --------------------------------------------------------------------------------------------------------


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Networks full of what the rules look for, with units around some of it."""
    b = GraphBuilder("random")
    values = [b.input((2, 3, 3))]

    def layer(x: Value) -> Value:
        kind = draw(st.sampled_from(["conv", "norm", "relu", "elu", "dropout", "add", "one", "sigmoid"]))
        if kind == "conv":
            return b.conv2d(x, 2, 1, bias=draw(st.booleans()), activation=draw(st.sampled_from(["none", "tanh"])))
        if kind == "norm":
            return b.batch_norm(x, activation=draw(st.sampled_from(["none", "none", "relu"])))
        if kind == "dropout":
            return b.dropout(x)
        if kind == "add":
            return b.add(x, draw(st.sampled_from(values)))
        return b.add(x) if kind == "one" else b.activation(x, kind)

    for _ in range(draw(st.integers(1, 8))):
        x = draw(st.sampled_from(values[-2:]))
        if draw(st.booleans()):
            x = layer(x)
        else:
            with b.unit():
                for _ in range(draw(st.integers(1, 4))):
                    x = layer(x)
        values.append(x)
    return b.build(*draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3)))


@settings(max_examples=150, deadline=None)
@given(networks())
def test_any_network_computes_the_same(graph: Graph) -> None:
    simple = checked(graph)
    assert "dropout" not in kinds(simple)
    assert len(simple.outputs) == len(graph.outputs)
    assert {unit.name for unit in simple.units} <= {unit.name for unit in graph.units}
