"""ONNX models in the making, and what onnxruntime computes with them. Needs both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from iosfarm.frontends.imported import Imported
from iosfarm.kernels.reference import run_graph


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
