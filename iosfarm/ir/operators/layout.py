"""Operators that move data: concat, slice, flatten, reshape, transpose, pad, resize, constant. All but resize count no
floating-point work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.operators.spec import Attributes, OperatorSpec, Shape, axis_of, fail, pair, sizes, spatial


def _concat_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    at = axis_of(attributes.get("axis", 1), inputs[0])
    rest = {(shape[:at], shape[at + 1 :]) for shape in inputs}
    if len(rest) > 1 or len({len(shape) for shape in inputs}) > 1:
        along = "channels" if at == 1 else f"axis {at}"
        raise fail(f"concat along {along} needs equal other sizes, got {[list(s) for s in inputs]}")
    return (*inputs[0][:at], sum(shape[at] for shape in inputs), *inputs[0][at + 1 :])


def _slice_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    at = axis_of(attributes.get("axis", 1), inputs[0])
    start, stop, step = attributes["start"], attributes["stop"], attributes.get("step", 1)
    if not isinstance(step, int) or step < 1:
        raise fail(f"the step of a slice must be at least 1, got {step}")
    if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop <= inputs[0][at]):
        what = "channels" if at == 1 else f"axis {at}"
        raise fail(f"slice of {what} {start}..{stop} is not inside of {inputs[0][at]}{' channels' if at == 1 else ''}")
    return (*inputs[0][:at], -(-(stop - start) // step), *inputs[0][at + 1 :])


def _reshape_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    shape = attributes["shape"]
    if not isinstance(shape, tuple) or shape.count(-1) != 1 or any(size < 1 for size in shape if size != -1):
        raise fail(f"shape must be of positive integers and one -1, the axis that holds the batch, got {shape}")
    known = -math.prod(shape)
    if math.prod(inputs[0]) % known:
        raise fail(f"{list(inputs[0])} does not fill a shape of {list(shape)}")
    return tuple(math.prod(inputs[0]) // known if size == -1 else size for size in shape)


def _transpose_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    axes = attributes["axes"]
    if not isinstance(axes, tuple) or sorted(axes) != list(range(len(inputs[0]))):
        raise fail(f"axes must hold each of 0..{len(inputs[0]) - 1} once, got {axes}")
    return tuple(inputs[0][axis] for axis in axes)


def _constant_shape(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    return (inputs[0][0], *sizes(attributes, "shape"))


def _constant_parameters(attributes: Attributes, _: Sequence[Shape]) -> dict[str, Shape]:
    return {"value": sizes(attributes, "shape")}


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
    OperatorSpec("concat", {}, _concat_shape, arity=(1, None), flops=_no_flops, added={"axis": 1}),
    OperatorSpec("slice", {"start": int, "stop": int}, _slice_shape, flops=_no_flops, added={"axis": 1, "step": 1}),
    OperatorSpec("flatten", {}, _flatten_shape, flops=_no_flops),
    OperatorSpec("reshape", {"shape": tuple}, _reshape_shape, flops=_no_flops),
    OperatorSpec("transpose", {"axes": tuple}, _transpose_shape, flops=_no_flops),
    # A learned tensor, once for each item of the batch of its input, of which nothing else is read.
    OperatorSpec("constant", {"shape": tuple}, _constant_shape, parameters=_constant_parameters, flops=_no_flops),
    OperatorSpec("pad", {"padding": tuple, "mode": "constant", "value": 0.0}, _pad_shape, flops=_no_flops),
    OperatorSpec(
        "resize",
        {"size": tuple, "mode": "nearest", "align_corners": False},
        _resize_shape,
        flops=_resize_flops,
    ),
)
