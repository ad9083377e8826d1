"""ONNX files that cannot be imported: each is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iosfarm.frontends.errors import CannotImport

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402 - after the check that it is there
from onnx_nets import Net  # noqa: E402

from iosfarm.frontends.onnx import import_file  # noqa: E402


def bad(name: str) -> Any:
    """A model that cannot be imported, or bytes."""
    net = Net(6 if name == "old" else 17)
    x = net.input(1, 3, 8, 8)
    if name == "empty":
        return b""
    if name == "cut off":
        return net.model(net.add("Conv", x, net.weight(8, 3, 3, 3))).SerializeToString()[:200]
    if name == "text":
        return b"this is no protobuf " * 9
    if name == "if":
        branch = helper.make_graph([], "b", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)])
        return net.model(net.add("If", net.constant([True]), then_branch=branch, else_branch=branch))
    if name == "quantised":
        scale, zero = net.constant(0.1, np.float32), net.constant(3, np.uint8)
        return net.model(net.add("QuantizeLinear", x, scale, zero))
    if name == "domain":
        model = net.model(net.add("Fancy", x, domain="com.example"))
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        return model
    if name == "wrong weight":
        return net.model(net.add("Conv", x, net.weight(8, 4, 3, 3)))
    if name == "wrong kernel":
        return net.model(net.add("Conv", x, net.weight(8, 3, 3, 3), kernel_shape=[5, 5]))
    if name == "wrong shapes":
        return net.model(net.add("Add", x, net.weight(3, 8, 7)))
    if name == "dynamic":
        net.inputs.clear()
        return net.model(net.add("Relu", net.input("batch", 3, "height", "width")))
    if name == "nothing fed":
        net.inputs.clear()
        return net.model(net.add("Relu", net.weight(1, 3)))
    if name in ("int8", "int64", "complex"):
        net.inputs.clear()
        kind = {"int8": TensorProto.INT8, "int64": TensorProto.INT64, "complex": TensorProto.COMPLEX64}[name]
        return net.model(net.add("Identity", net.input(1, 4, kind=kind)))
    if name == "dangling":
        return net.model(net.add("Relu", "nowhere"))
    if name == "data-dependent":
        return net.model(net.add("Reshape", x, net.add("Cast", net.add("ReduceMax", x), to=TensorProto.INT64)))
    if name == "nonzero":
        return net.model(net.add("NonZero", x))
    if name == "mask":
        value, mask = net.add("Dropout", x, outputs=2)
        return net.model(value, net.add("Cast", mask, to=TensorProto.FLOAT))
    assert name == "old"
    return net.model(net.add("Relu", x))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "without a network; it may be cut off"),
        ("cut off", "cut off; copy it again"),
        ("text", "cut off; copy it again"),
        ("old", "opset 6; 7 and later are read; onnx.version_converter"),
        ("if", r"node 0 'n0' \(If\): control flow; export the branch"),
        ("quantised", r"node 0 'n0' \(QuantizeLinear\): a quantised network"),
        ("domain", "the operator Fancy of the domain 'com.example' at node 0 'n0'"),
        ("wrong weight", r"node 0 'n0' \(Conv\): it does not fit inputs of \[1, 3, 8, 8\], \[8, 4, 3, 3\]"),
        ("wrong kernel", r"the weight is for a kernel of \[3, 3\], the operator says \[5, 5\]"),
        ("wrong shapes", r"node 0 'n0' \(Add\): it does not fit"),
        ("dynamic", r"axis 2 of the input 'x' is dynamic \(height\); bind it"),
        ("nothing fed", "the network reads no tensor"),
        ("int8", "the input 'x' is int8"),
        ("int64", "the input 'x' is int64"),
        ("complex", "the input 'x' is complex64"),
        ("dangling", "nowhere"),
        ("data-dependent", "shape depends on the network's inputs"),
        ("nonzero", r"the operator NonZero is not known"),
        ("mask", "reads 'v0_1', which is not computed"),
    ],
)
def test_files_that_cannot_be_imported(name: str, words: str, tmp_path: Path) -> None:
    content = bad(name)
    path = tmp_path / "net.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(CannotImport, match=words) as caught:
        import_file(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    net = Net(17)
    model = net.model(net.add("Conv", net.input(1, 3, 8, 8), net.weight(4, 3, 3, 3)))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.append(onnx.StringStringEntryProto(key="location", value="../secret"))
    (tmp_path / "secret").write_bytes(b"0" * 432)
    path = tmp_path / "inner" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CannotImport, match="outside of its folder"):
        import_file(path)
