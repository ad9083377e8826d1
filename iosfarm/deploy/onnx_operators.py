"""Every operator in terms of ONNX, opset 17. A `NodeWriter` collects what an operator becomes.

The IR has PyTorch's conventions. Where ONNX has none that is the same, the difference is written out: windows of
`ceil_mode` as padding at the end, adaptive pooling as a product with two constant matrices or as a maximum of slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from iosfarm.ir.graph import Graph, Operator
from iosfarm.kernels.runtime import Array, Weights

if TYPE_CHECKING:
    import onnx

OPSET = 17


class NodeWriter:
    """The nodes and constants of one ONNX graph. Float constants get `dtype`."""

    def __init__(self, graph: Graph, weights: Weights, dtype: np.dtype[np.generic]) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = weights
        self._dtype = dtype
        self._constants: dict[str, str] = {}

    def write(self, operator: Operator) -> None:
        """Append an operator; its result has its name."""
        activation = str(operator.attributes.get("activation", "none"))
        if activation == "none":
            _WRITERS[operator.kind](self, operator, operator.name)
        else:
            before = f"{operator.name}/{operator.kind}"
            _WRITERS[operator.kind](self, operator, before)
            _ACTIVATIONS[activation](self, operator, before, operator.name)

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node, which is named like its output; returns that."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def floats(self, values: object) -> str:
        """The name of a constant of the graph's dtype."""
        return self._constant(np.asarray(values, dtype=np.float64).astype(self._dtype))

    def integers(self, values: Sequence[int]) -> str:
        """The name of a constant of int64."""
        return self._constant(np.array(values, dtype=np.int64))

    def parameters(self, operator: Operator, *names: str) -> list[str]:
        """The names of an operator's weights, those that it has; each is written once."""
        has = self.graph.parameters(operator)
        result = [f"{operator.name}.{name}" for name in names if name in has]
        for name in result:
            self._initializer(name, self._weights[name].astype(self._dtype))
        return result

    def _constant(self, array: Array) -> str:
        text = f"{array.dtype}{list(array.shape)}{array.tobytes().hex()}"
        if text not in self._constants:
            self._constants[text] = name = f"constant/{len(self._constants)}"
            self._initializer(name, array)
        return self._constants[text]

    def _initializer(self, name: str, array: Array) -> None:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))


def _ints(operator: Operator, name: str) -> tuple[int, ...]:
    return cast("tuple[int, ...]", operator.attributes[name])


def _float(operator: Operator, name: str) -> float:
    return cast("float", operator.attributes[name])


# -- operators with weights ------------------------------------------------------------------------------------------


def _conv2d(w: NodeWriter, o: Operator, output: str) -> None:
    padding = _ints(o, "padding")
    w.node(
        "Conv",
        [*o.inputs, *w.parameters(o, "weight", "bias")],
        output,
        kernel_shape=_ints(o, "kernel"),
        strides=_ints(o, "stride"),
        dilations=_ints(o, "dilation"),
        pads=[*padding, *padding],
        group=o.attributes["groups"],
    )


def _linear(w: NodeWriter, o: Operator, output: str) -> None:
    parameters = w.parameters(o, "weight", "bias")
    if len(w.graph.shape(o.name)) == 2:
        w.node("Gemm", [*o.inputs, *parameters], output, transB=1)
        return
    weight = w.node("Transpose", parameters[:1], f"{o.name}/transposed", perm=[1, 0])
    product = w.node("MatMul", [o.inputs[0], weight], f"{o.name}/product" if parameters[1:] else output)
    if parameters[1:]:
        w.node("Add", [product, parameters[1]], output)


def _batch_norm(w: NodeWriter, o: Operator, output: str) -> None:
    parameters = w.parameters(o, "weight", "bias", "running_mean", "running_var")
    w.node("BatchNormalization", [*o.inputs, *parameters], output, epsilon=_float(o, "eps"))


# -- pooling ---------------------------------------------------------------------------------------------------------


def _window(w: NodeWriter, o: Operator) -> tuple[list[int], bool]:
    """Padding (top, left, bottom, right) so that windows fit without `ceil_mode`, and whether that adds to the end."""
    kernel, stride, padding = _ints(o, "kernel"), _ints(o, "stride"), _ints(o, "padding")
    sizes, results = w.graph.shape(o.inputs[0])[2:], w.graph.shape(o.name)[2:]
    over = [
        max(0, (result - 1) * s + k - size - 2 * p)
        for result, s, k, size, p in zip(results, stride, kernel, sizes, padding, strict=True)
    ]
    return [*padding, padding[0] + over[0], padding[1] + over[1]], any(over)


def _max_pool(w: NodeWriter, o: Operator, output: str) -> None:
    pads, _ = _window(w, o)
    w.node("MaxPool", o.inputs, output, kernel_shape=_ints(o, "kernel"), strides=_ints(o, "stride"), pads=pads)


def _avg_pool(w: NodeWriter, o: Operator, output: str) -> None:
    pads, over = _window(w, o)
    source, include = o.inputs[0], bool(o.attributes["count_include_pad"])
    if include and over:
        # PyTorch counts the padding but not what `ceil_mode` adds: the one is made real, the other left out.
        top, left = _ints(o, "padding")
        source = w.node("Pad", [source, w.integers([0, 0, top, left, 0, 0, top, left])], f"{o.name}/padded")
        pads, include = [0, 0, pads[2] - top, pads[3] - left], False
    window = {"kernel_shape": _ints(o, "kernel"), "strides": _ints(o, "stride"), "pads": pads}
    w.node("AveragePool", [source], output, count_include_pad=int(include), **window)


def _adaptive_windows(size: int, outputs: int) -> list[tuple[int, int]]:
    """PyTorch's: output i covers ⌊i·size/outputs⌋ up to ⌈(i+1)·size/outputs⌉."""
    return [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


def _adaptive_avg_pool(w: NodeWriter, o: Operator, output: str) -> None:
    (height, width), (rows, columns) = w.graph.shape(o.inputs[0])[2:], _ints(o, "output_size")
    if height % rows == 0 and width % columns == 0:
        cell = (height // rows, width // columns)
        w.node("AveragePool", o.inputs, output, kernel_shape=cell, strides=cell)
        return
    across = w.node("MatMul", [o.inputs[0], w.floats(_averaging(width, columns).T)], f"{o.name}/across")
    w.node("MatMul", [w.floats(_averaging(height, rows)), across], output)


def _averaging(size: int, outputs: int) -> Array:
    """[outputs, size]: each row averages one window."""
    matrix = np.zeros((outputs, size))
    for row, (start, stop) in enumerate(_adaptive_windows(size, outputs)):
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix


def _adaptive_max_pool(w: NodeWriter, o: Operator, output: str) -> None:
    (height, width), (rows, columns) = w.graph.shape(o.inputs[0])[2:], _ints(o, "output_size")
    if height % rows == 0 and width % columns == 0:
        cell = (height // rows, width // columns)
        w.node("MaxPool", o.inputs, output, kernel_shape=cell, strides=cell)
        return
    source = o.inputs[0]
    for axis, size, outputs in ((2, height, rows), (3, width, columns)):
        pieces = []
        for number, (start, stop) in enumerate(_adaptive_windows(size, outputs)):
            name = f"{o.name}/{axis}.{number}"
            window = _slice_node(w, source, f"{name}/window", start, stop, axis)
            pieces.append(w.node("ReduceMax", [window], name, axes=[axis], keepdims=1))
        source = w.node("Concat", pieces, f"{o.name}/{axis}" if axis == 2 else output, axis=axis)


# -- elementwise -----------------------------------------------------------------------------------------------------


def _chain(kind: str) -> Writer:
    def write(w: NodeWriter, o: Operator, output: str) -> None:
        if len(o.inputs) == 1:
            w.node("Identity", o.inputs, output)
            return
        result = o.inputs[0]
        for number, name in enumerate(o.inputs[1:], 2):
            result = w.node(kind, [result, name], output if number == len(o.inputs) else f"{o.name}/{number}")

    return write


def _plain(kind: str, **attributes: float) -> Activation:
    return lambda w, o, source, output: w.node(kind, [source], output, **attributes)


def _relu6(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    return w.node("Clip", [source, w.floats(0.0), w.floats(6.0)], output)


def _silu(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    return w.node("Mul", [source, w.node("Sigmoid", [source], f"{output}/sigmoid")], output)


def _gelu(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    """x/2 · (1 + erf(x/√2)): ONNX has it as an operator from opset 20 on only."""
    scaled = w.node("Mul", [source, w.floats(1 / math.sqrt(2))], f"{output}/scaled")
    erf = w.node("Erf", [scaled], f"{output}/erf")
    grown = w.node("Add", [erf, w.floats(1.0)], f"{output}/grown")
    half = w.node("Mul", [source, w.floats(0.5)], f"{output}/half")
    return w.node("Mul", [half, grown], output)


def _leaky_relu(w: NodeWriter, o: Operator, source: str, output: str) -> str:
    return w.node("LeakyRelu", [source], output, alpha=_float(o, "negative_slope"))


def _elu(w: NodeWriter, o: Operator, source: str, output: str) -> str:
    return w.node("Elu", [source], output, alpha=_float(o, "alpha"))


def _softmax(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Softmax", o.inputs, output, axis=o.attributes["axis"])


# -- layout ----------------------------------------------------------------------------------------------------------


def _concat(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Concat", o.inputs, output, axis=o.attributes.get("axis", 1))


def _slice(w: NodeWriter, o: Operator, output: str) -> None:
    a = o.attributes
    place = [w.integers([cast("int", value)]) for value in (a["start"], a["stop"], a.get("axis", 1), a.get("step", 1))]
    w.node("Slice", [o.inputs[0], *place], output)


def _slice_node(w: NodeWriter, source: str, output: str, start: int, stop: int, axis: int) -> str:
    return w.node("Slice", [source, w.integers([start]), w.integers([stop]), w.integers([axis])], output)


def _flatten(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Flatten", o.inputs, output, axis=1)


def _pad(w: NodeWriter, o: Operator, output: str) -> None:
    amounts, mode = _ints(o, "padding"), str(o.attributes["mode"])
    if mode == "constant":
        left, right, top, bottom = amounts
        value = w.floats(_float(o, "value"))
        w.node("Pad", [o.inputs[0], w.integers([0, 0, top, left, 0, 0, bottom, right]), value], output)
        return
    # As the IR has it: first grow, then crop, so that what is cropped may be reflected.
    left, right, top, bottom = (max(0, amount) for amount in amounts)
    kind = {"reflect": "reflect", "replicate": "edge"}[mode]
    pads = w.integers([0, 0, top, left, 0, 0, bottom, right])
    if min(amounts) >= 0:
        w.node("Pad", [o.inputs[0], pads], output, mode=kind)
        return
    grown = w.node("Pad", [o.inputs[0], pads], f"{o.name}/grown", mode=kind)
    _, _, height, width = w.graph.shape(o.inputs[0])
    left, right, top, bottom = (max(0, -amount) for amount in amounts)
    ends = (height + sum(max(0, a) for a in amounts[2:]) - bottom, width + sum(max(0, a) for a in amounts[:2]) - right)
    w.node("Slice", [grown, w.integers([top, left]), w.integers(ends), w.integers([2, 3])], output)


def _resize(w: NodeWriter, o: Operator, output: str) -> None:
    if o.attributes["mode"] == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        corners = bool(o.attributes["align_corners"])
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
    w.node("Resize", [o.inputs[0], "", "", w.integers(w.graph.shape(o.name))], output, **how)


Writer = Callable[[NodeWriter, Operator, str], None]
Activation = Callable[[NodeWriter, Operator, str, str], str]

_ACTIVATIONS: dict[str, Activation] = {
    "relu": _plain("Relu"),
    "relu6": _relu6,
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "silu": _silu,
    "gelu": _gelu,
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": _plain("HardSwish"),
    "elu": _elu,
    "leaky_relu": _leaky_relu,
}


def _alone(activation: Activation) -> Writer:
    def write(w: NodeWriter, o: Operator, output: str) -> None:
        activation(w, o, o.inputs[0], output)

    return write


_WRITERS: dict[str, Writer] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _alone(_plain("GlobalAveragePool")),
    "global_max_pool": _alone(_plain("GlobalMaxPool")),
    "adaptive_avg_pool": _adaptive_avg_pool,
    "adaptive_max_pool": _adaptive_max_pool,
    "add": _chain("Add"),
    "mul": _chain("Mul"),
    **{kind: _alone(activation) for kind, activation in _ACTIVATIONS.items()},
    "softmax": _softmax,
    "dropout": _alone(_plain("Identity")),
    "concat": _concat,
    "slice": _slice,
    "flatten": _flatten,
    "pad": _pad,
    "resize": _resize,
}

KINDS = frozenset(_WRITERS)
"""The operators that can be written."""
