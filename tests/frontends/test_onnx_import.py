"""ONNX files: what onnxruntime computes, from opset 7 to the current one; and files that cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import iosfarm
from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Imported
from iosfarm.kernels.reference import run_graph

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check that it is there

from iosfarm.frontends.onnx import import_file  # noqa: E402

Array = NDArray[Any]
LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))
NEWEST = 22
"""The newest opset that the onnxruntime of these tests is sure to run."""


class Net:
    """A model in the making: tensors get the names v1, v2, …; weights are random."""

    def __init__(self, opset: int, seed: int = 0) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.inputs: list[Any] = []

    def input(self, *shape: int | str, name: str = "x", kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.constant(self.random.uniform(low, high, shape).astype(np.float32))

    def constant(self, values: object, dtype: Any = None) -> str:
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"n{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def model(self, *outputs: str) -> Any:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, values, self.initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=min(10, helper.find_min_ir_version_for(opsets))
        )

    def save(self, path: Path, *outputs: str) -> Path:
        path.write_bytes(self.model(*outputs).SerializeToString())
        return path


def both(path: Path, imported: Imported, batch: int, dtype: torch.dtype = torch.float64) -> float:
    """Largest difference to onnxruntime, relative to the largest number; ours is computed in `dtype`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = imported.graph.bind(batch=batch)
    random = np.random.default_rng(7)
    inputs = [random.uniform(-1, 1, graph.shape(item.name)).astype(np.float32) for item in graph.inputs]
    theirs = session.run(None, {item.name: array for item, array in zip(session.get_inputs(), inputs, strict=True)})
    ours = run_graph(graph, imported.weights, inputs, dtype)
    worst = 0.0
    for place, expected in zip(imported.signature.outputs, theirs, strict=True):
        assert isinstance(place, int)
        assert ours[place].shape == expected.shape
        assert np.isfinite(expected).all()
        worst = max(worst, float(np.abs(ours[place] - expected).max()) / (float(np.abs(expected).max()) or 1.0))
    return worst


# -- the networks that come with onnx ----------------------------------------------------------------------------------


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


# -- every opset -------------------------------------------------------------------------------------------------------


def network(opset: int, path: Path) -> Path:
    """A network whose operators have changed most between opsets."""
    net = Net(opset)
    new = opset >= 13

    def over(kind: str, value: str, axes: Sequence[int], **more: Any) -> Any:
        """Axes are an input since 13 (reductions: since 18)."""
        as_input = opset >= (18 if kind in ("ReduceMean", "ReduceMax") else 13)
        if as_input:
            return net.add(kind, value, net.integers(*axes), **more)
        return net.add(kind, value, axes=list(axes), **more)

    x = net.input("batch", 3, 12, 12)
    x = net.add("Conv", x, net.weight(8, 3, 3, 3), net.weight(8), pads=[1, 1, 1, 1])
    statistics = [net.weight(8), net.weight(8), net.weight(8), net.weight(8, low=0.5)]
    x = net.add("BatchNormalization", x, *statistics, epsilon=1e-3)
    x = net.add("Clip", x, net.constant(0.0, np.float32), net.constant(6.0, np.float32)) if opset >= 11 else net.add(
        "Clip", x, min=0.0, max=6.0
    )  # fmt: skip
    pooled = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    mean = net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    left, right = (
        net.add("Split", mean, net.integers(4, 4), outputs=2, axis=1)
        if new
        else net.add("Split", mean, outputs=2, axis=1, split=[4, 4])
    )
    part = (
        net.add("Slice", right, net.integers(0), net.integers(2), net.integers(1), net.integers(1))
        if opset >= 10
        else net.add("Slice", right, starts=[0], ends=[2], axes=[1])
    )
    rest = net.add("Concat", part, net.add("LeakyRelu", left, alpha=0.2), part, axis=1)
    x = net.add("Sum", pooled, rest)
    if opset >= 11:
        x = net.add("Resize", x, net.constant([], np.float32), net.constant([1, 1, 2, 2], np.float32), mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    elif opset >= 9:
        x = net.add("Upsample" if opset < 10 else "Resize", x, net.constant([1, 1, 2, 2], np.float32), mode="nearest")
    else:
        x = net.add("Upsample", x, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    pads = [0, 0, 1, 0, 0, 0, 1, 2]
    x = net.add("Pad", x, net.integers(*pads)) if opset >= 11 else net.add("Pad", x, pads=pads)
    squeezed = over("ReduceMean", x, (2, 3), keepdims=0)
    gate = net.add("Sigmoid", net.add("Gemm", squeezed, net.weight(8, 8), net.weight(8), transB=1, alpha=0.5))
    x = net.add("Mul", x, over("Unsqueeze", gate, (2, 3)))
    x = over("ReduceMax", x, (2,), keepdims=1)
    x = over("Squeeze", x, (2,))
    outputs = net.add("Dropout", x, outputs=2)  # with a mask that nobody reads
    shape = net.add("Shape", outputs[0])
    first = net.add("Gather", shape, net.integers(0), axis=0)
    x = net.add("Reshape", outputs[0], net.add("Concat", first, net.integers(-1), axis=0))
    return net.save(path, net.add("Softmax", x), net.add("Flatten", gate))


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_opsets(opset: int, tmp_path: Path) -> None:
    path = network(opset, tmp_path / "net.onnx")
    imported = import_file(path, strict=True)
    assert len(imported.graph.outputs) == 2
    for batch in (1, 3):
        assert both(path, imported, batch) <= 1e-4


# -- one operator each -------------------------------------------------------------------------------------------------

ONE: dict[str, tuple[str, Sequence[int], Sequence[Any], Mapping[str, Any]]] = {
    # name: kind, shape of the input behind the batch, further inputs (arrays or shapes of weights), attributes
    "conv-asymmetric": ("Conv", (4, 9, 8), [(6, 2, 3, 2), (6,)],
                        {"group": 2, "pads": [0, 1, 2, 0], "strides": [2, 1], "dilations": [1, 2]}),
    "conv-same": ("Conv", (4, 9, 8), [(6, 4, 3, 2)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "conv-1d": ("Conv", (4, 9), [(6, 4, 3)], {"pads": [1, 1]}),
    "conv-transpose": ("ConvTranspose", (4, 5, 6), [(4, 3, 3, 3), (3,)],
                       {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "conv-transpose-groups": ("ConvTranspose", (4, 5, 6), [(4, 3, 2, 2)], {"strides": [2, 2], "group": 2}),
    "max-pool-ceil": ("MaxPool", (4, 9, 8), [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max-pool-before": ("MaxPool", (4, 9, 8), [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
    "max-pool-after": ("MaxPool", (4, 9, 8), [], {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [0, 1, 1, 0]}),
    "average-pool-around": ("AveragePool", (4, 9, 8), [],
                            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "average-pool-uneven": ("AveragePool", (4, 9, 8), [], {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1]}),
    "average-pool-over-the-end": ("AveragePool", (4, 9, 9), [],
                                  {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "global-max": ("GlobalMaxPool", (4, 5, 6), [], {}),
    "lrn": ("LRN", (9, 4, 5), [], {"size": 5, "alpha": 0.3, "bias": 2.0}),
    "instance-norm": ("InstanceNormalization", (4, 5, 6), [(4,), (4,)], {"epsilon": 1e-3}),
    "layer-norm": ("LayerNormalization", (4, 6), [(6,), (6,)], {}),
    "prelu": ("PRelu", (4, 5, 6), [(4, 1, 1)], {}),
    "prelu-one": ("PRelu", (4, 5, 6), [(1,)], {}),
    "prelu-rows": ("PRelu", (4, 5, 6), [(6,)], {}),
    "hard-sigmoid": ("HardSigmoid", (4, 5), [], {"alpha": 0.3, "beta": 0.4}),
    "hard-swish": ("HardSwish", (4, 5), [], {}),
    "celu": ("Celu", (4, 5), [], {"alpha": 1.5}),
    "selu": ("Selu", (4, 5), [], {}),
    "softsign": ("Softsign", (4, 5), [], {}),
    "thresholded": ("ThresholdedRelu", (4, 5), [], {"alpha": 0.3}),
    "elu": ("Elu", (4, 5), [], {"alpha": 0.4}),
    "erf": ("Erf", (4, 5), [], {}),
    "gemm": ("Gemm", (6,), [(6, 5), (1, 5)], {"alpha": 0.5, "beta": 2.0}),
    "gemm-plain": ("Gemm", (6,), [(6, 5)], {}),
    "matmul": ("MatMul", (4, 6), [(6, 5)], {}),
    "matmul-batched": ("MatMul", (3, 4, 6), [(1, 3, 6, 5)], {}),
    "add-constant": ("Add", (4, 5), [(1, 4, 1)], {}),
    "mul-larger": ("Mul", (1, 5), [(4, 5)], {}),
    "pow": ("Pow", (4, 5), [np.float32(2.0)], {}),
    "transpose": ("Transpose", (4, 5, 6), [], {"perm": [0, 2, 3, 1]}),
    "reduce-l2": ("ReduceL2", (4, 5), [np.array([2])], {"keepdims": 0}),
    "reduce-sum-square": ("ReduceSumSquare", (4, 5), [np.array([1])], {}),
    "reduce-prod": ("ReduceProd", (4, 3), [np.array([1, 2])], {}),
    "reduce-log": ("ReduceLogSumExp", (4, 5), [np.array([1])], {}),
    "depth-to-space": ("DepthToSpace", (8, 3, 4), [], {"blocksize": 2}),
    "depth-to-space-crd": ("DepthToSpace", (8, 3, 4), [], {"blocksize": 2, "mode": "CRD"}),
    "space-to-depth": ("SpaceToDepth", (3, 4, 6), [], {"blocksize": 2}),
    "resize-linear": ("Resize", (3, 4, 5), [None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    "resize-corners": ("Resize", (3, 4, 5), [None, None, np.array([2, 3, 9, 7])],
                       {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    "resize-nearest": ("Resize", (3, 4, 6), [None, None, np.array([2, 3, 6, 4])], {"mode": "nearest"}),
    "resize-cubic": ("Resize", (3, 4, 6), [None, None, np.array([2, 3, 8, 9])], {"mode": "cubic"}),
    "pad-edge": ("Pad", (3, 4, 5), [np.array([0, 0, 1, 0, 0, 0, 2, 1])], {"mode": "edge"}),
    "pad-reflect": ("Pad", (3, 4, 5), [np.array([0, 0, 1, 0, 0, 0, 2, 1])], {"mode": "reflect"}),
    "pad-channels": ("Pad", (3, 4, 5), [np.array([0, 1, 0, 0, 0, 2, 0, 0])], {}),
    "slice-backwards": ("Slice", (3, 6), [np.array([-1]), np.array([-7]), np.array([2]), np.array([-2])], {}),
    "gather-some": ("Gather", (5, 4), [np.array([0, 3, 3])], {"axis": 1}),
    "gather-one": ("Gather", (5, 4), [np.array(2)], {"axis": 1}),
    "tile": ("Tile", (3, 4), [np.array([1, 2, 1])], {}),
    "expand": ("Expand", (1, 4), [np.array([1, 3, 1])], {}),
    "einsum": ("Einsum", (3, 4), [(4, 5)], {"equation": "bij,jk->bik"}),
    "softmax-channels": ("Softmax", (3, 4, 5), [], {"axis": 1}),
    "log-softmax": ("LogSoftmax", (5,), [], {}),
    "flatten-late": ("Flatten", (3, 4, 5), [], {"axis": 2}),
    "cum-sum": ("CumSum", (6, 5), [np.array(1)], {}),
    "sum-of-one": ("Sum", (6, 5), [], {}),
    "mean": ("Mean", (6, 5), [(1, 6, 5), (1, 6, 5)], {}),
    "max": ("Max", (6, 5), [(6, 5)], {}),
    "group-norm": ("GroupNormalization", (6, 4, 3), [(6,), (6,)], {"num_groups": 3}),
    "gelu-tanh": ("Gelu", (4, 5), [], {"approximate": "tanh"}),
    "mish": ("Mish", (4, 5), [], {}),
}  # fmt: skip

WHOLE = {
    "conv-1d", "max-pool-after", "celu", "thresholded", "reduce-prod", "reduce-log", "resize-cubic", "resize-nearest",
    "slice-backwards", "gather-some", "tile", "expand", "cum-sum", "max",
}  # fmt: skip
"""Those that have no counterpart of ours."""


@pytest.mark.parametrize("name", ONE)
def test_one_operator(name: str, tmp_path: Path) -> None:
    kind, shape, others, attributes = ONE[name]
    net = Net(21 if kind in ("GroupNormalization", "Gelu", "Mish") else 18)
    inputs = [net.input(2, *shape)]
    for other in others:
        if other is None:
            inputs.append("")
        else:
            inputs.append(net.weight(*other) if isinstance(other, tuple) else net.constant(other))
    path = net.save(tmp_path / "net.onnx", net.add(kind, *inputs, **attributes))
    imported = import_file(path)
    assert bool(imported.opaque) == (name in WHOLE), [str(item) for item in imported.opaque]
    assert both(path, imported, 2) <= 1e-4


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


# -- what cannot be ----------------------------------------------------------------------------------------------------


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


def test_dynamic_axes_are_bound_by_name(tmp_path: Path) -> None:
    net = Net(17)
    out = net.add("Conv", net.input("batch", 3, "height", "width"), net.weight(4, 3, 3, 3))
    path = net.save(tmp_path / "net.onnx", out)
    imported = import_file(path, bindings={"height": 9, "width": 7})
    assert imported.graph.inputs[0].shape == (3, 9, 7)
    assert both(path, imported, 2) <= 1e-4
    with pytest.raises(CannotImport, match="there is no dynamic axis 'hight'; did you mean height"):
        import_file(path, bindings={"hight": 9, "width": 7, "height": 9})


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


def test_load_takes_a_path(tmp_path: Path) -> None:
    path = network(17, tmp_path / "net.onnx")
    assert iosfarm.load(path) == iosfarm.load(str(path), strict=True)
    assert iosfarm.load(path, batch_size=2).batch == 2
