"""ONNX files that mean harm, or something that no graph can say: a line each, at once."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.onnx import import_file
from iosfarm.kernels.reference import run_graph

WEIGHT = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)


def model(*nodes: object, shape: object = (2, 3, 8, 8), opset: int = 17, **stored: object) -> ModelProto:
    """A network from x to y. stored: arrays by name."""
    arrays = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], arrays,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def convolution(x: str = "x", y: str = "y") -> object:
    return helper.make_node("Conv", [x, "w"], [y], pads=[1] * 4)


def lying(**changes: object) -> ModelProto:
    """A network whose weight's entry says something else than its bytes."""
    made = model(convolution(), w=WEIGHT)
    weight = made.graph.initializer[0]
    for name, value in changes.items():
        if name == "dims":
            weight.dims[:] = value
        else:
            setattr(weight, name, value)
    return made


def filled(*sizes: int) -> ModelProto:
    return model(
        helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("ReduceMax", ["c"], ["m"]),
        helper.make_node("Add", ["x", "m"], ["y"]), s=sizes,
    )  # fmt: skip


def by_the_batch() -> ModelProto:
    return model(
        helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "i"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=1), helper.make_node("Div", ["x", "f"], ["y"]),
        shape=("N", 3, 8, 8), i=0,
    )  # fmt: skip


def twice(what: str) -> ModelProto:
    made = model(convolution(), w=WEIGHT)
    if what == "weights":
        made.graph.initializer.append(made.graph.initializer[0])
    elif what == "inputs":
        made.graph.input.append(made.graph.input[0])
    else:
        made.graph.node.append(made.graph.node[0])
    return made


def a_range() -> ModelProto:
    return model(
        helper.make_node("Range", ["a", "b", "c"], ["r"]), helper.make_node("ReduceMax", ["r"], ["m"]),
        helper.make_node("Add", ["x", "m"], ["y"]), a=np.float32(0), b=np.float32(1e12), c=np.float32(1),
    )  # fmt: skip


BAD = {
    "a huge constant": (filled(1 << 20, 1 << 12, 1 << 5), "ReduceMax.*a constant of 1e\\+11 numbers"),
    "a huge range": (a_range(), "Range.*a constant of 1e\\+12 numbers"),
    "a huge input": (model(convolution(), shape=(2, 3, 1 << 40, 1 << 40), w=WEIGHT), "it is too large"),
    "an unknown type": (lying(data_type=99), "the weight 'w' is of an unknown type"),
    "a negative size": (lying(dims=[-1, 3, 3, 3]), "the weight 'w' cannot be read"),
    "another size": (lying(dims=[8, 3, 3, 3]), "the weight 'w' cannot be read"),
    "a cut weight": (lying(raw_data=b"123"), "the weight 'w' cannot be read"),
    "two weights": (twice("weights"), "two weights are called 'w'"),
    "two inputs": (twice("inputs"), "two inputs are called 'x'"),
    "two results": (twice("results"), "two tensors are called 'y'"),
    "the batch as a number": (by_the_batch(), "Div.*it computes with the size of the batch"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    made, words = BAD[name]
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(CannotImport, match=words) as caught:
        import_file(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [-8, 0, "8", 8.0])
def test_sizes_that_are_none(size: object, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model(convolution(), shape=("N", 3, "h", 8), w=WEIGHT).SerializeToString())
    with pytest.raises(CannotImport, match="is no size; a size is 1 or more"):
        import_file(path, bindings={"h": size})  # type: ignore[dict-item]


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)  # opening it would wait for somebody who writes
    for path in (pipe, tmp_path):
        with pytest.raises(CannotImport, match="not a file"):
            import_file(path)


def test_a_newer_opset_is_said(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model(convolution(), opset=99, w=WEIGHT).SerializeToString())
    assert any("opset 99" in notice for notice in import_file(path).notices)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype: str, tmp_path: Path) -> None:
    made = model(convolution(), w=WEIGHT.astype(getattr(ml_dtypes, dtype, dtype)))
    made.graph.input[0].type.tensor_type.elem_type = getattr(
        TensorProto, {"float64": "DOUBLE"}.get(dtype, dtype.upper())
    )
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    found = import_file(path)
    assert any(f"computes in {dtype}" in notice for notice in found.notices)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(model(convolution(), w=WEIGHT).SerializeToString())
    expected = import_file(plain)
    actual = run_graph(found.graph, found.weights, [x])[0]
    assert np.abs(actual - run_graph(expected.graph, expected.weights, [x])[0]).max() < 0.1


def test_tables_that_are_gathered_by_tuples(tmp_path: Path) -> None:
    """As torch's exporter writes `table[:, places]` for the biases of attention."""
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    places = np.array([[0, 3], [2, -1], [1, 1]])
    nodes = [helper.make_node("GatherND", ["table", "places"], ["row"]), helper.make_node("Add", ["x", "row"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    stored = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(places, "places")]
    graph = helper.make_graph(nodes, "gathering", [x], [y], stored)
    path = tmp_path / "gathering.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    found = import_file(path)
    values = np.ones((2, 3))
    (output,) = run_graph(found.graph, found.weights, [values])
    assert np.allclose(output, values + table[places[:, 0], places[:, 1]])
