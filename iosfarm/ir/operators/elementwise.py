"""Operators that keep or broadcast shapes: add, mul, activations, softmax, dropout, scale, …"""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import ACTIVATIONS, Attribute, Attributes, OperatorSpec, Shape, broadcast, fail, sizes


def _same_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]


def _broadcast(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    return broadcast(inputs)


def _combine_flops(_: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * max(1, len(inputs) - 1)


def _softmax_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    axis = attributes["axis"]
    if not isinstance(axis, int) or not -len(inputs[0]) <= axis < len(inputs[0]):
        raise fail(f"softmax axis {axis} is outside of {list(inputs[0])}")
    return inputs[0]


def _weighted_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    shape = sizes(attributes, "shape")
    missing = len(inputs[0]) - len(shape)
    if missing < 0 or broadcast([inputs[0], (1,) * missing + shape]) != inputs[0]:
        raise fail(f"a weight of {list(shape)} does not broadcast to {list(inputs[0])}")
    return inputs[0]


def _weighted_parameters(attributes: Attributes, _: Sequence[Shape]) -> dict[str, Shape]:
    return {"weight": sizes(attributes, "shape")}


def _clamp_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    least, most = attributes["min"], attributes["max"]
    if not (isinstance(least, float) and isinstance(most, float) and least <= most):
        raise fail(f"clamp from {least} to {most} leaves nothing")
    return inputs[0]


def _unary_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    if attributes["function"] not in UNARY:
        raise fail(f"unary function {attributes['function']!r} is not one of {', '.join(UNARY)}")
    return inputs[0]


def _unary_flops(attributes: Attributes, _: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * (1 if attributes["function"] in ("abs", "floor", "ceil") else 8)


def _prelu_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) < 2:
        raise fail(f"prelu needs channels, got {list(inputs[0])}")
    return inputs[0]


def _dropout_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    rate = attributes["rate"]
    if not isinstance(rate, float) or not 0 <= rate < 1:
        raise fail(f"dropout rate must be in [0, 1), got {rate}")
    return inputs[0]


_PARAMETRISED: dict[str, dict[str, Attribute]] = {
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
}

UNARY = (
    "exp", "log", "sqrt", "rsqrt", "abs", "reciprocal", "erf", "sin", "cos", "floor", "ceil", "softplus", "mish",
    "selu", "softsign", "log_sigmoid", "gelu_tanh",
)  # fmt: skip
"""Functions of one element that are not activations to fuse."""

UNBOUNDED = 3.0e38
"""A clamp's bound of this size or more is none."""

SPECS = (
    OperatorSpec("add", {"activation": "none"}, _broadcast, arity=(1, None), flops=_combine_flops),
    OperatorSpec("mul", {"activation": "none"}, _broadcast, arity=(1, None), flops=_combine_flops),
    *(OperatorSpec(kind, _PARAMETRISED.get(kind, {}), _same_shape) for kind in ACTIVATIONS),
    OperatorSpec("softmax", {"axis": -1}, _softmax_shape, flops=lambda _a, _i, output: 4 * math.prod(output)),
    OperatorSpec("log_softmax", {"axis": -1}, _softmax_shape, flops=lambda _a, _i, output: 4 * math.prod(output)),
    OperatorSpec("sub", {"activation": "none"}, _broadcast, arity=(2, 2)),
    OperatorSpec("div", {"activation": "none"}, _broadcast, arity=(2, 2)),
    # scale · x + offset, both numbers
    OperatorSpec(
        "affine",
        {"scale": 1.0, "offset": 0.0, "activation": "none"},
        _same_shape,
        flops=lambda _a, _i, output: 2 * math.prod(output),
    ),
    # x · weight and x + weight; the weight has the shape `shape`, which broadcasts to that of x
    *(
        OperatorSpec(kind, {"shape": tuple, "activation": "none"}, _weighted_shape, parameters=_weighted_parameters)
        for kind in ("scale", "shift")
    ),
    OperatorSpec("clamp", {"min": -UNBOUNDED, "max": UNBOUNDED}, _clamp_shape),
    OperatorSpec("power", {"exponent": float}, _same_shape, flops=lambda _a, _i, output: 8 * math.prod(output)),
    OperatorSpec("unary", {"function": str}, _unary_shape, flops=_unary_flops),
    OperatorSpec("prelu", {}, _prelu_shape, parameters=lambda _, inputs: {"weight": (inputs[0][1],)}),
    OperatorSpec("dropout", {"rate": 0.5}, _dropout_shape, flops=lambda _a, _i, _o: 0),
)
