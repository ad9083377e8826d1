"""Operators that move data: concat, slice, flatten, pad, resize. They count no floating-point work."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import Attributes, OperatorSpec, Shape, fail, pair, spatial


def _concat_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    rest = {(shape[0], *shape[2:]) for shape in inputs}
    if len(rest) > 1:
        raise fail(f"concat along channels needs equal other sizes, got {[list(s) for s in inputs]}")
    return (inputs[0][0], sum(shape[1] for shape in inputs), *inputs[0][2:])


def _slice_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    start, stop = attributes["start"], attributes["stop"]
    if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop <= inputs[0][1]):
        raise fail(f"slice of channels {start}..{stop} is not inside of {inputs[0][1]} channels")
    return (inputs[0][0], stop - start, *inputs[0][2:])


def _flatten_shape(_: Attributes, inputs: Sequence[Shape]) -> Shape:
    return (inputs[0][0], math.prod(inputs[0][1:]))


def _pad_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    batch, channels, height, width = spatial(inputs[0], "pad")
    amounts = attributes["padding"]
    if not isinstance(amounts, tuple) or len(amounts) != 4:
        raise fail(f"padding must be four integers (left, right, top, bottom), got {amounts}")
    if attributes["mode"] not in ("constant", "reflect", "replicate"):
        raise fail(f"pad mode {attributes['mode']!r} is not constant, reflect or replicate")
    left, right, top, bottom = amounts
    if attributes["mode"] == "reflect" and (max(left, right) >= width or max(top, bottom) >= height):
        raise fail(f"reflect padding {list(amounts)} is not smaller than the input of {height}x{width}")
    if height + min(0, top) + min(0, bottom) < 1 or width + min(0, left) + min(0, right) < 1:
        raise fail(f"padding {list(amounts)} leaves nothing of the input of {height}x{width}")
    return (batch, channels, height + top + bottom, width + left + right)


def _resize_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    batch, channels, _, _ = spatial(inputs[0], "resize")
    if attributes["mode"] not in ("nearest", "bilinear"):
        raise fail(f"resize mode {attributes['mode']!r} is not nearest or bilinear")
    if attributes["align_corners"] and attributes["mode"] == "nearest":
        raise fail("resize cannot align corners with mode nearest, only with bilinear")
    return (batch, channels, *pair(attributes, "size", 1))


def _no_flops(_: Attributes, __: Sequence[Shape], ___: Shape) -> int:
    return 0


def _resize_flops(attributes: Attributes, _: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * (8 if attributes["mode"] == "bilinear" else 0)


SPECS = (
    OperatorSpec("concat", {}, _concat_shape, arity=(1, None), flops=_no_flops),
    OperatorSpec("slice", {"start": int, "stop": int}, _slice_shape, flops=_no_flops),
    OperatorSpec("flatten", {}, _flatten_shape, flops=_no_flops),
    OperatorSpec("pad", {"padding": tuple, "mode": "constant", "value": 0.0}, _pad_shape, flops=_no_flops),
    OperatorSpec(
        "resize",
        {"size": tuple, "mode": "nearest", "align_corners": False},
        _resize_shape,
        flops=_resize_flops,
    ),
)
