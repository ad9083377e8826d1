"""Operators on tensors of any rank in terms of ONNX, opset 17: products, norms, reductions, arithmetic, reshaping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from iosfarm.deploy.onnx_writer import Function, NodeWriter, Writer, ints, number, plain
from iosfarm.ir.graph import Operator
from iosfarm.ir.operators.elementwise import UNBOUNDED
from iosfarm.kernels.runtime import Array

# -- operators with weights ------------------------------------------------------------------------------------------


def _conv_transpose2d(w: NodeWriter, o: Operator, output: str) -> None:
    padding = ints(o, "padding")
    w.node(
        "ConvTranspose",
        [*o.inputs, *w.parameters(o, "weight", "bias")],
        output,
        kernel_shape=ints(o, "kernel"),
        strides=ints(o, "stride"),
        dilations=ints(o, "dilation"),
        pads=[*padding, *padding],
        output_padding=ints(o, "output_padding"),
        group=o.attributes["groups"],
    )


def _layer_norm(w: NodeWriter, o: Operator, output: str) -> None:
    inputs = [*o.inputs, *w.parameters(o, "weight", "bias")]
    w.node("LayerNormalization", inputs, output, axis=-len(ints(o, "shape")), epsilon=number(o, "eps"))


def _group_norm(w: NodeWriter, o: Operator, output: str) -> None:
    """As instance norm of groups, then weight and bias of each channel: ONNX's own has them from opset 21 on."""
    shape, groups = w.graph.shape(o.inputs[0]), cast("int", o.attributes["groups"])
    each = (shape[1], *[1] * (len(shape) - 2))
    grouped = w.node("Reshape", [o.inputs[0], w.integers([shape[0], groups, -1])], f"{o.name}/grouped")
    ones, zeros = w.floats(np.ones(groups)), w.floats(np.zeros(groups))
    normed = w.node("InstanceNormalization", [grouped, ones, zeros], f"{o.name}/normed", epsilon=number(o, "eps"))
    back = w.node("Reshape", [normed, w.integers(shape)], f"{o.name}/back")
    scaled = w.node("Mul", [back, w.parameter(o, "weight", lambda a: a.reshape(each))], f"{o.name}/scaled")
    w.node("Add", [scaled, w.parameter(o, "bias", lambda a: a.reshape(each))], output)


def _local_response_norm(w: NodeWriter, o: Operator, output: str) -> None:
    """x / (k + alpha · mean of squares over `size` channels)^beta; ONNX's own puts an even window one channel on."""
    size = cast("int", o.attributes["size"])
    alpha, beta, k = number(o, "alpha"), number(o, "beta"), number(o, "k")
    if size % 2:
        w.node("LRN", o.inputs, output, size=size, alpha=alpha, beta=beta, bias=k)
        return
    batch, channels, height, width = shape = w.graph.shape(o.inputs[0])
    square = w.node("Mul", [o.inputs[0], o.inputs[0]], f"{o.name}/square")
    lines = w.node("Reshape", [square, w.integers([batch, 1, channels, height * width])], f"{o.name}/lines")
    window = {"kernel_shape": [size, 1], "pads": [size // 2, 0, (size - 1) // 2, 0], "count_include_pad": 1}
    mean = w.node("AveragePool", [lines], f"{o.name}/mean", **window)
    back = w.node("Reshape", [mean, w.integers(shape)], f"{o.name}/back")
    scaled = w.node("Mul", [back, w.floats(alpha)], f"{o.name}/scaled")
    base = w.node("Add", [scaled, w.floats(k)], f"{o.name}/base")
    w.node("Div", [o.inputs[0], w.node("Pow", [base, w.floats(beta)], f"{o.name}/power")], output)


def _with_weight(kind: str) -> Writer:
    def write(w: NodeWriter, o: Operator, output: str) -> None:
        w.node(kind, [*o.inputs, *w.parameters(o, "weight")], output)

    return write


def _prelu(w: NodeWriter, o: Operator, output: str) -> None:
    rank = len(w.graph.shape(o.inputs[0]))
    slope = w.parameter(o, "weight", lambda a: a.reshape(-1, *[1] * (rank - 2)))
    w.node("PRelu", [*o.inputs, slope], output)


def _constant(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Expand", [*w.parameters(o, "value"), w.integers(w.graph.shape(o.name))], output)


# -- products --------------------------------------------------------------------------------------------------------


def _attention(w: NodeWriter, o: Operator, output: str) -> None:
    """softmax(scale · q kᵀ + mask) v."""
    query, key, value, *mask = o.inputs
    shape, keys = w.graph.shape(query), w.graph.shape(key)[-2]
    scale = number(o, "scale") or 1 / math.sqrt(shape[-1])
    last = len(shape) - 1
    turned = w.node("Transpose", [key], f"{o.name}/turned", perm=[*range(last - 1), last, last - 1])
    scaled = w.node("Mul", [query, w.floats(scale)], f"{o.name}/scaled")
    logits = w.node("MatMul", [scaled, turned], f"{o.name}/logits")
    if o.attributes["causal"]:
        mask = [w.floats(_causal(shape[-2], keys))]
    if mask:
        logits = w.node("Add", [logits, *mask], f"{o.name}/masked")
    w.node("MatMul", [w.node("Softmax", [logits], f"{o.name}/weights", axis=-1), value], output)


def _causal(queries: int, keys: int) -> Array:
    """[queries, keys]: a query sees the keys up to its own place."""
    return np.triu(np.full((queries, keys), -np.inf), 1)


# -- arithmetic ------------------------------------------------------------------------------------------------------


def _same(kind: str) -> Writer:
    def write(w: NodeWriter, o: Operator, output: str) -> None:
        w.node(kind, o.inputs, output)

    return write


def _affine(w: NodeWriter, o: Operator, output: str) -> None:
    scaled = w.node("Mul", [o.inputs[0], w.floats(number(o, "scale"))], f"{o.name}/scaled")
    w.node("Add", [scaled, w.floats(number(o, "offset"))], output)


def _clamp(w: NodeWriter, o: Operator, output: str) -> None:
    bounds = [w.floats(bound) if abs(bound) < UNBOUNDED else "" for bound in (number(o, "min"), number(o, "max"))]
    if not any(bounds):
        w.node("Identity", o.inputs, output)
        return
    w.node("Clip", [o.inputs[0], *(bounds if bounds[1] else bounds[:1])], output)


def _power(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Pow", [o.inputs[0], w.floats(number(o, "exponent"))], output)


def _log_softmax(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("LogSoftmax", o.inputs, output, axis=o.attributes["axis"])


def _unary(w: NodeWriter, o: Operator, output: str) -> None:
    _FUNCTIONS[str(o.attributes["function"])](w, o, o.inputs[0], output)


def _rsqrt(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    return w.node("Reciprocal", [w.node("Sqrt", [source], f"{output}/root")], output)


def _mish(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    """x · tanh(softplus(x)); ONNX has it from opset 18 on."""
    soft = w.node("Softplus", [source], f"{output}/soft")
    return w.node("Mul", [source, w.node("Tanh", [soft], f"{output}/tanh")], output)


def _log_sigmoid(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    """-softplus(-x)."""
    soft = w.node("Softplus", [w.node("Neg", [source], f"{output}/negative")], f"{output}/soft")
    return w.node("Neg", [soft], output)


def _gelu_tanh(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    """x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""
    cube = w.node("Pow", [source, w.floats(3.0)], f"{output}/cube")
    part = w.node("Mul", [cube, w.floats(0.044715)], f"{output}/part")
    total = w.node("Add", [source, part], f"{output}/sum")
    inner = w.node("Mul", [total, w.floats(math.sqrt(2 / math.pi))], f"{output}/inner")
    grown = w.node("Add", [w.node("Tanh", [inner], f"{output}/tanh"), w.floats(1.0)], f"{output}/grown")
    half = w.node("Mul", [source, w.floats(0.5)], f"{output}/half")
    return w.node("Mul", [half, grown], output)


_FUNCTIONS: dict[str, Function] = {
    **{
        kind.lower(): plain(kind)
        for kind in (
            "Exp", "Log", "Sqrt", "Abs", "Reciprocal", "Erf", "Sin", "Cos", "Floor", "Ceil", "Softplus", "Selu",
            "Softsign",
        )
    },
    "rsqrt": _rsqrt,
    "mish": _mish,
    "log_sigmoid": _log_sigmoid,
    "gelu_tanh": _gelu_tanh,
}  # fmt: skip


# -- shapes ----------------------------------------------------------------------------------------------------------


def _reduce(w: NodeWriter, o: Operator, output: str) -> None:
    axes, keep = list(ints(o, "axes")), int(bool(o.attributes["keepdims"]))
    if o.attributes["function"] == "sum":  # the one that takes its axes as an input already
        w.node("ReduceSum", [o.inputs[0], w.integers(axes)], output, keepdims=keep)
        return
    kinds = {"mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "norm": "ReduceL2"}
    w.node(kinds[str(o.attributes["function"])], o.inputs, output, axes=axes, keepdims=keep)


def _reshape(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Reshape", [o.inputs[0], w.integers(w.graph.shape(o.name))], output)


def _transpose(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Transpose", o.inputs, output, perm=_axes(ints(o, "axes")))


def _axes(axes: Sequence[int]) -> list[int]:
    return [axis % len(axes) for axis in axes]


WRITERS: dict[str, Writer] = {
    "conv_transpose2d": _conv_transpose2d,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "local_response_norm": _local_response_norm,
    "scale": _with_weight("Mul"),
    "shift": _with_weight("Add"),
    "prelu": _prelu,
    "constant": _constant,
    "matmul": _same("MatMul"),
    "attention": _attention,
    "sub": _same("Sub"),
    "div": _same("Div"),
    "affine": _affine,
    "clamp": _clamp,
    "power": _power,
    "log_softmax": _log_softmax,
    "unary": _unary,
    "reduce": _reduce,
    "reshape": _reshape,
    "transpose": _transpose,
}
