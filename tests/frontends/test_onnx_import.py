"""ONNX files: whole networks compute what onnxruntime does, from opset 7 to the current one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import iosfarm
from iosfarm.frontends.errors import CannotImport

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check that it is there
from onnx_nets import Net, both, network  # noqa: E402

from iosfarm.frontends.onnx import import_file  # noqa: E402

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))
NEWEST = 22
"""The newest opset that the onnxruntime of these tests is sure to run."""


def with_random_weights(source: Path, target: Path) -> Path:
    """The weights of these files are of one number each, which hides every mistake: give them others."""
    model = onnx.load(source)
    random = np.random.default_rng(3)
    shapes = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    variances = {n.input[4] for n in model.graph.node if n.op_type == "BatchNormalization"}
    kept, filled = [], []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            shape = shapes[node.input[0]].tolist()
            values = random.random(shape, dtype=np.float32)
            if node.output[0] in variances:
                values += 0.5
            else:
                values -= 0.5
                values *= 3.4 / max(1.0, float(np.prod(shape[1:])) ** 0.5)
            filled.append(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(filled)
    model.ir_version = 8  # older ones want weights among the inputs
    target.write_bytes(model.SerializeToString())
    return target


@pytest.mark.parametrize("source", LIGHT, ids=lambda path: path.stem)
def test_light_networks(source: Path, tmp_path: Path) -> None:
    assert len(LIGHT) == 9
    path = with_random_weights(source, tmp_path / source.name)
    imported = import_file(path, strict=True)
    assert imported.opaque == ()
    assert both(path, imported, 1, torch.float32) <= 1e-4


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_opsets(opset: int, tmp_path: Path) -> None:
    path = network(opset, tmp_path / "net.onnx")
    imported = import_file(path, strict=True)
    assert len(imported.graph.outputs) == 2
    for batch in (1, 3):
        assert both(path, imported, batch) <= 1e-4


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    net = Net(17)
    x, y = net.input("n", 3, 8, 8, name="image"), net.input("n", 3, name="gate")
    scaled = net.add("Mul", x, net.add("Unsqueeze", y, net.integers(2, 3)))
    path = net.save(tmp_path / "net.onnx", scaled, net.add("Relu", x), scaled)
    imported = import_file(path, batch_size=4)
    assert (imported.graph.batch, [i.name for i in imported.graph.inputs]) == (4, ["image", "gate"])
    assert imported.signature.outputs == (0, 1, 0)


def test_external_weights(tmp_path: Path) -> None:
    net = Net(17)
    out = net.add("Conv", net.input(1, 3, 8, 8), net.weight(16, 3, 3, 3))
    path = tmp_path / "net.onnx"
    onnx.save_model(net.model(out), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert both(path, import_file(path), 1) <= 1e-4
    (tmp_path / "net.data").unlink()
    with pytest.raises(CannotImport, match=r"its weights are in 'net\.data', which is not there; put it beside"):
        import_file(path)


def test_functions_of_the_model_are_inlined(tmp_path: Path) -> None:
    body = helper.make_function("mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
                                [helper.make_opsetid("", 17)])  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="mine")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, functions=[body], ir_version=8).SerializeToString())
    assert [o.kind for o in import_file(path).graph.operators] == ["add"]


def test_dynamic_axes_are_bound_by_name(tmp_path: Path) -> None:
    net = Net(17)
    out = net.add("Conv", net.input("batch", 3, "height", "width"), net.weight(4, 3, 3, 3))
    path = net.save(tmp_path / "net.onnx", out)
    imported = import_file(path, bindings={"height": 9, "width": 7})
    assert imported.graph.inputs[0].shape == (3, 9, 7)
    assert both(path, imported, 2) <= 1e-4
    with pytest.raises(CannotImport, match="there is no dynamic axis 'hight'; did you mean height"):
        import_file(path, bindings={"hight": 9, "width": 7, "height": 9})


def test_load_takes_a_path(tmp_path: Path) -> None:
    path = network(17, tmp_path / "net.onnx")
    assert iosfarm.load(path) == iosfarm.load(str(path), strict=True)
    assert iosfarm.load(path, batch_size=2).batch == 2
