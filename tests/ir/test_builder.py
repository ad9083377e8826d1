"""Mistakes are named where they are written, not when the graph is built."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import GraphError
from iosfarm.ir.graph import Unit


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        (lambda b: b.operator("conv3d", ["x"]), "net: operator 1 'conv3d_1': unknown operator 'conv3d'; the nearest"),
        (lambda b: b.relu("y"), "net: operator 1 'relu_2': reads 'y', which does not exist"),
        (lambda b: b.conv2d("x", 4, 9), "net: operator 1 'conv2d_1' (conv2d): a window of 9 is larger than"),
        (
            lambda b: b.operator("conv2d", [], out_channels=1, kernel=(1, 1)),
            "net: operator 1 'conv2d_1': conv2d takes 1",
        ),
        (lambda b: b.add(), "net: operator 1 'add_1': add takes at least 1 input(s), got 0"),
        (lambda b: b.operator("relu", ["x"], name="x"), "net: two tensors are named 'x'"),
        (lambda b: b.input((1,), name="x"), "net: two tensors are named 'x'"),
        (lambda b: b.input((4, 0), name="y"), "net: input 'y': the shape [4, 0]; use positive integers"),
        (lambda b: b.input(()), "net: input 'input_1': the shape []"),
        (lambda b: b.split("x", [1, 2]), "net: split sizes [1, 2] do not add up to 4 channels"),
        (lambda b: b.activation("x", "rulu"), "net: unknown activation 'rulu'; use one of relu"),
        (lambda b: b.conv2d("x", 4, 1, activation="elu"), "net: operator 1 'conv2d_1': conv2d cannot fuse"),
        (lambda b: b.build(), "net: a graph needs an output"),
        (lambda b: b.build("y"), "net: the output 'y' is not in the graph"),
    ],
)
def test_mistake(mistake: Callable[[GraphBuilder], object], line: str) -> None:
    b = GraphBuilder("net")
    b.relu(b.input((4, 8, 8), name="x"))
    with pytest.raises(GraphError) as caught:
        mistake(b)
    assert str(caught.value).startswith(line)


def test_a_refused_operator_leaves_no_trace() -> None:
    b = GraphBuilder("net")
    x = b.input((4, 8, 8))
    with pytest.raises(GraphError):
        b.conv2d(x, 4, 9, name="c")
    y = b.conv2d(x, 4, 3, name="c")
    assert [o.name for o in b.build(y).operators] == ["c"]


def test_made_up_names_avoid_given_ones() -> None:
    b = GraphBuilder("net")
    x = b.input((4, 8, 8), name="relu_1")
    b.operator("relu", [x], name="relu_2")
    assert b.relu(x) == "relu_3"


def test_units() -> None:
    b = GraphBuilder("net")
    x = b.input((4, 8, 8))
    with b.unit():
        y = b.relu(b.max_pool(x, 2))
    with b.unit("tail"):
        z = b.relu(y)
    graph = b.build(z)
    assert graph.units == (Unit("relu_1", ("max_pool_1", "relu_1")), Unit("tail", ("relu_2",)))


def test_units_do_not_nest_and_are_not_empty() -> None:
    b = GraphBuilder("net")
    x = b.input((4, 8, 8))
    with pytest.raises(GraphError, match="net: units do not nest"), b.unit(), b.unit():
        b.relu(x)
    with pytest.raises(GraphError, match="net: a unit needs an operator"), b.unit():
        pass
    with b.unit("works"):
        y = b.relu(x)
    assert [unit.name for unit in b.build(y).units] == ["works"]


def test_shapes_are_known_at_once() -> None:
    b = GraphBuilder("net")
    x = b.input((4, 8, 8))
    left, right = b.split(x, [1, 3])
    assert (b.shape(x), b.channels(left), b.shape(right)) == ((1, 4, 8, 8), 1, (1, 3, 8, 8))
    assert b.shape(b.depthwise(x, 3, stride=2)) == (1, 4, 3, 3)
