"""Operators that look along axes: reduce, layer_norm, group_norm, local_response_norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import Attributes, OperatorSpec, Shape, axis_of, fail, sizes, spatial

REDUCTIONS = ("mean", "sum", "max", "min", "norm")
"""norm: the square root of the sum of squares."""


def _reduce_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    if attributes["function"] not in REDUCTIONS:
        raise fail(f"cannot reduce by {attributes['function']!r}, only by {', '.join(REDUCTIONS)}")
    axes = attributes["axes"]
    if not isinstance(axes, tuple) or not axes:
        raise fail(f"axes must be integers, got {axes}")
    gone = {axis_of(axis, inputs[0]) for axis in axes}
    if len(gone) < len(axes):
        raise fail(f"axes {list(axes)} hold one twice")
    if attributes["keepdims"]:
        return tuple(1 if i in gone else size for i, size in enumerate(inputs[0]))
    if len(gone) == len(inputs[0]):
        raise fail("all axes are reduced, the batch among them")
    return tuple(size for i, size in enumerate(inputs[0]) if i not in gone)


def _layer_norm_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    shape = sizes(attributes, "shape")
    if len(shape) >= len(inputs[0]) or inputs[0][-len(shape) :] != shape:
        raise fail(f"layer_norm over {list(shape)} does not fit {list(inputs[0])}")
    return inputs[0]


def _layer_norm_parameters(attributes: Attributes, _: Sequence[Shape]) -> dict[str, Shape]:
    shape = sizes(attributes, "shape")
    return {"weight": shape, "bias": shape}


def _group_norm_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    groups = attributes["groups"]
    if len(inputs[0]) < 2 or not isinstance(groups, int) or groups < 1 or inputs[0][1] % groups:
        raise fail(f"group_norm in {groups} groups does not fit {list(inputs[0])}")
    return inputs[0]


def _group_norm_parameters(_: Attributes, inputs: Sequence[Shape]) -> dict[str, Shape]:
    return {"weight": (inputs[0][1],), "bias": (inputs[0][1],)}


def _response_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    size = attributes["size"]
    if not isinstance(size, int) or size < 1:
        raise fail(f"size must be at least 1, got {size}")
    return spatial(inputs[0], "local_response_norm")


def _response_flops(attributes: Attributes, _: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * (int(attributes["size"]) + 12)  # type: ignore[arg-type]


def _normal_flops(_: Attributes, __: Sequence[Shape], output: Shape) -> int:
    return 8 * math.prod(output)


SPECS = (
    OperatorSpec(
        "reduce",
        {"function": "mean", "axes": tuple, "keepdims": False},
        _reduce_shape,
        flops=lambda _a, inputs, _o: math.prod(inputs[0]),
    ),
    OperatorSpec(
        "layer_norm",
        {"shape": tuple, "eps": 1e-5, "activation": "none"},
        _layer_norm_shape,
        parameters=_layer_norm_parameters,
        flops=_normal_flops,
    ),
    OperatorSpec(
        "group_norm",
        {"groups": int, "eps": 1e-5, "activation": "none"},
        _group_norm_shape,
        parameters=_group_norm_parameters,
        flops=_normal_flops,
    ),
    # x / (k + alpha / size · sum of squares over `size` channels)^beta, as PyTorch and ONNX have it
    OperatorSpec(
        "local_response_norm",
        {"size": int, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
        _response_shape,
        flops=_response_flops,
    ),
)
