"""Operators without weights that keep or broadcast shapes: add, mul, activations, softmax, dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import ACTIVATIONS, Attribute, Attributes, OperatorSpec, Shape, fail


def _same_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]


def _broadcast(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    ranks = {len(shape) for shape in inputs}
    if len(ranks) > 1:
        raise fail(f"inputs of different rank: {[list(s) for s in inputs]}")
    result = []
    for sizes in zip(*inputs, strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            raise fail(f"shapes do not broadcast: {[list(s) for s in inputs]}")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def _combine_flops(_: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * max(1, len(inputs) - 1)


def _softmax_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    axis = attributes["axis"]
    if not isinstance(axis, int) or not -len(inputs[0]) <= axis < len(inputs[0]):
        raise fail(f"softmax axis {axis} is outside of {list(inputs[0])}")
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

SPECS = (
    OperatorSpec("add", {"activation": "none"}, _broadcast, arity=(1, None), flops=_combine_flops),
    OperatorSpec("mul", {"activation": "none"}, _broadcast, arity=(1, None), flops=_combine_flops),
    *(OperatorSpec(kind, _PARAMETRISED.get(kind, {}), _same_shape) for kind in ACTIVATIONS),
    OperatorSpec("softmax", {"axis": -1}, _softmax_shape, flops=lambda _a, _i, output: 4 * math.prod(output)),
    OperatorSpec("dropout", {"rate": 0.5}, _dropout_shape, flops=lambda _a, _i, _o: 0),
)
