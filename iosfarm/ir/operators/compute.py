"""Operators with weights: conv2d, linear, batch_norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import Attributes, OperatorSpec, Shape, fail, pair, spatial, window


def _conv_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    batch, channels, height, width = spatial(inputs[0], "conv2d")
    out, groups = int(attributes["out_channels"]), int(attributes["groups"])  # type: ignore[arg-type]
    kernel, stride = pair(attributes, "kernel", 1), pair(attributes, "stride", 1)
    padding, dilation = pair(attributes, "padding", 0), pair(attributes, "dilation", 1)
    if out < 1 or groups < 1:
        raise fail(f"out_channels and groups must be at least 1, got {out} and {groups}")
    if channels % groups or out % groups:
        raise fail(f"{channels} input and {out} output channels do not divide into {groups} groups")
    size = [
        window(length, kernel[i], stride[i], padding[i], padding[i], dilation[i], ceil=False)
        for i, length in enumerate((height, width))
    ]
    return (batch, out, size[0], size[1])


def _conv_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> dict[str, Shape]:
    out, kernel = int(attributes["out_channels"]), pair(attributes, "kernel", 1)  # type: ignore[arg-type]
    shapes: dict[str, Shape] = {"weight": (out, inputs[0][1] // int(attributes["groups"]), *kernel)}  # type: ignore[arg-type]
    if attributes["bias"]:
        shapes["bias"] = (out,)
    return shapes


def _conv_flops(attributes: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return 2 * math.prod(output) * math.prod(_conv_parameters(attributes, inputs)["weight"][1:])


def _linear_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) != 2:
        raise fail(f"linear needs an input of [batch, features], got {list(inputs[0])}; put a flatten before it")
    out = int(attributes["out_features"])  # type: ignore[arg-type]
    if out < 1:
        raise fail(f"out_features must be at least 1, got {out}")
    return (inputs[0][0], out)


def _linear_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> dict[str, Shape]:
    out = int(attributes["out_features"])  # type: ignore[arg-type]
    shapes: dict[str, Shape] = {"weight": (out, inputs[0][1])}
    if attributes["bias"]:
        shapes["bias"] = (out,)
    return shapes


def _linear_flops(_: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return 2 * math.prod(output) * inputs[0][1]


def _norm_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    return spatial(inputs[0], "batch_norm")


def _norm_parameters(_: Attributes, inputs: Sequence[Shape]) -> dict[str, Shape]:
    channels = (inputs[0][1],)
    return {"weight": channels, "bias": channels, "running_mean": channels, "running_var": channels}


SPECS = (
    OperatorSpec(
        "conv2d",
        {
            "out_channels": int,
            "kernel": tuple,
            "stride": (1, 1),
            "padding": (0, 0),
            "dilation": (1, 1),
            "groups": 1,
            "bias": True,
            "activation": "none",
        },
        _conv_shape,
        parameters=_conv_parameters,
        flops=_conv_flops,
    ),
    OperatorSpec(
        "linear",
        {"out_features": int, "bias": True, "activation": "none"},
        _linear_shape,
        parameters=_linear_parameters,
        flops=_linear_flops,
    ),
    OperatorSpec(
        "batch_norm",
        {"eps": 1e-5, "activation": "none"},
        _norm_shape,
        parameters=_norm_parameters,
        flops=lambda _a, _i, output: 2 * math.prod(output),
    ),
)
