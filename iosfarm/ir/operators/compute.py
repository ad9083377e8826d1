"""Operators with weights: conv2d, conv_transpose2d, linear, batch_norm; and matmul and attention, which have none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import Attributes, OperatorSpec, Shape, broadcast, fail, pair, spatial, window


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


def _transposed_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    batch, channels, height, width = spatial(inputs[0], "conv_transpose2d")
    out, groups = int(attributes["out_channels"]), int(attributes["groups"])  # type: ignore[arg-type]
    kernel, stride = pair(attributes, "kernel", 1), pair(attributes, "stride", 1)
    padding, dilation = pair(attributes, "padding", 0), pair(attributes, "dilation", 1)
    extra = pair(attributes, "output_padding", 0)
    if out < 1 or groups < 1 or channels % groups or out % groups:
        raise fail(f"{channels} input and {out} output channels do not divide into {groups} groups")
    if any(extra[i] >= max(stride[i], dilation[i]) for i in (0, 1)):
        raise fail(f"output_padding {list(extra)} is not smaller than the stride or the dilation")
    size = [
        (length - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1
        for i, length in enumerate((height, width))
    ]
    if min(size) < 1:
        raise fail(f"padding {list(padding)} leaves nothing of the output")
    return (batch, out, size[0], size[1])


def _transposed_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> dict[str, Shape]:
    out, kernel = int(attributes["out_channels"]), pair(attributes, "kernel", 1)  # type: ignore[arg-type]
    shapes: dict[str, Shape] = {"weight": (inputs[0][1], out // int(attributes["groups"]), *kernel)}  # type: ignore[arg-type]
    if attributes["bias"]:
        shapes["bias"] = (out,)
    return shapes


def _transposed_flops(attributes: Attributes, inputs: Sequence[Shape], _: Shape) -> int:
    return 2 * math.prod(inputs[0]) * math.prod(_transposed_parameters(attributes, inputs)["weight"][1:])


def _matmul_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    left, right = inputs
    if len(left) != len(right) or len(left) < 2 or left[-1] != right[-2]:
        raise fail(f"matmul of {list(left)} and {list(right)}: ranks or inner sizes differ")
    return (*broadcast([left[:-2], right[:-2]]), left[-2], right[-1])


def _matmul_flops(_: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return 2 * math.prod(output) * inputs[0][-1]


def _attention_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    query, key, value = inputs[:3]
    ranks = {len(shape) for shape in (query, key, value)}
    if ranks != {len(query)} or len(query) < 3 or query[-1] != key[-1] or key[-2] != value[-2]:
        raise fail(f"attention of {[list(s) for s in (query, key, value)]}: sizes do not fit")
    if query[:-2] != key[:-2] or query[:-2] != value[:-2]:
        raise fail(f"attention of {[list(s) for s in (query, key, value)]}: heads or batches differ")
    logits = (*query[:-1], key[-2])
    if len(inputs) == 4 and (len(inputs[3]) != len(query) or broadcast([inputs[3], logits]) != logits):
        raise fail(f"a mask of {list(inputs[3])} does not fit attention of {list(logits)}")
    if attributes["causal"] and len(inputs) == 4:
        raise fail("attention takes a mask or is causal, not both")
    return (*query[:-1], value[-1])


def _attention_flops(_: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    query, key = inputs[:2]
    logits = math.prod(query[:-1]) * key[-2]
    return 2 * logits * (query[-1] + output[-1]) + 4 * logits


def _linear_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) < 2:
        raise fail(f"linear needs an input of [batch, …, features], got {list(inputs[0])}")
    out = int(attributes["out_features"])  # type: ignore[arg-type]
    if out < 1:
        raise fail(f"out_features must be at least 1, got {out}")
    return (*inputs[0][:-1], out)


def _linear_parameters(attributes: Attributes, inputs: Sequence[Shape]) -> dict[str, Shape]:
    out = int(attributes["out_features"])  # type: ignore[arg-type]
    shapes: dict[str, Shape] = {"weight": (out, inputs[0][-1])}
    if attributes["bias"]:
        shapes["bias"] = (out,)
    return shapes


def _linear_flops(_: Attributes, inputs: Sequence[Shape], output: Shape) -> int:
    return 2 * math.prod(output) * inputs[0][-1]


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
        "conv_transpose2d",
        {
            "out_channels": int,
            "kernel": tuple,
            "stride": (1, 1),
            "padding": (0, 0),
            "output_padding": (0, 0),
            "dilation": (1, 1),
            "groups": 1,
            "bias": True,
            "activation": "none",
        },
        _transposed_shape,
        parameters=_transposed_parameters,
        flops=_transposed_flops,
    ),
    OperatorSpec("matmul", {}, _matmul_shape, arity=(2, 2), flops=_matmul_flops),
    # softmax(scale · q kᵀ + mask) v; a scale of 0 stands for 1 / √(features of q). Inputs: q, k, v and maybe a mask.
    OperatorSpec("attention", {"scale": 0.0, "causal": False}, _attention_shape, arity=(3, 4), flops=_attention_flops),
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
