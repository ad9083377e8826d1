"""Pooling operators, with PyTorch's conventions for padding, `ceil_mode` and `count_include_pad`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import Attribute, Attributes, OperatorSpec, Shape, fail, pair, spatial, window


def _pool_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    batch, channels, height, width = spatial(inputs[0], "pooling")
    kernel, stride, padding = (
        pair(attributes, n, least) for n, least in (("kernel", 1), ("stride", 1), ("padding", 0))
    )
    if any(2 * padding[i] > kernel[i] for i in (0, 1)):
        raise fail(f"padding {list(padding)} is more than half of the kernel {list(kernel)}")
    ceil = bool(attributes["ceil_mode"])
    size = [
        window(length, kernel[i], stride[i], padding[i], padding[i], 1, ceil)
        for i, length in enumerate((height, width))
    ]
    return (batch, channels, size[0], size[1])


def _pool_flops(attributes: Attributes, _: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * math.prod(pair(attributes, "kernel", 1))


def _global_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    return (*spatial(inputs[0], "global pooling")[:2], 1, 1)


def _adaptive_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return (*spatial(inputs[0], "adaptive pooling")[:2], *pair(attributes, "output_size", 1))


def _read_all(_: Attributes, inputs: Sequence[Shape], __: Shape) -> int:
    return math.prod(inputs[0])


_WINDOW: dict[str, Attribute | type] = {"kernel": tuple, "stride": (1, 1), "padding": (0, 0), "ceil_mode": False}

SPECS = (
    OperatorSpec("max_pool", _WINDOW, _pool_shape, flops=_pool_flops),
    OperatorSpec("avg_pool", {**_WINDOW, "count_include_pad": True}, _pool_shape, flops=_pool_flops),
    OperatorSpec("global_max_pool", {}, _global_shape, flops=_read_all),
    OperatorSpec("global_avg_pool", {}, _global_shape, flops=_read_all),
    OperatorSpec("adaptive_max_pool", {"output_size": tuple}, _adaptive_shape, flops=_read_all),
    OperatorSpec("adaptive_avg_pool", {"output_size": tuple}, _adaptive_shape, flops=_read_all),
)
