"""What moves, cuts or resamples data."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from iosfarm.ir.operators import Attributes
from iosfarm.kernels.torch_operators.binding import Binder, Bound, Function, pair, plain


def _concat(a: Attributes, _: Bound) -> Function:
    axis = cast("int", a.get("axis", 1))
    return lambda *inputs: torch.cat(inputs, axis)


def _slice(a: Attributes, _: Bound) -> Function:
    start, stop = cast("int", a["start"]), cast("int", a["stop"])
    axis, step = cast("int", a.get("axis", 1)), cast("int", a.get("step", 1))
    return lambda x: torch.ops.aten.slice.Tensor(x, axis, start, stop, step)


def _reshape(a: Attributes, _: Bound) -> Function:
    shape = cast("tuple[int, ...]", a["shape"])
    return lambda x: x.reshape(shape)


def _transpose(a: Attributes, _: Bound) -> Function:
    axes = cast("tuple[int, ...]", a["axes"])
    return lambda x: x.permute(axes)


def _constant(_: Attributes, w: Bound) -> Function:
    value = w["value"]
    return lambda x: value.expand(x.shape[0], *value.shape)


def _pad(a: Attributes, _: Bound) -> Function:
    padding = cast("tuple[int, ...]", a["padding"])
    mode, value = str(a["mode"]), cast("float", a["value"])
    if mode == "constant":
        return lambda x: F.pad(x, padding, value=value)
    # torch crops by negative amounts in constant mode only. Growing comes first: what is cropped may be reflected.
    grow = tuple(max(0, amount) for amount in padding)
    left, right, top, bottom = (max(0, -amount) for amount in padding)

    def pad(x: Tensor) -> Tensor:
        x = F.pad(x, grow, mode=mode)
        return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]

    return pad


def _resize(a: Attributes, _: Bound) -> Function:
    size = pair(a, "size")
    if a["mode"] == "nearest":
        return lambda x: F.interpolate(x, size, mode="nearest")
    corners = bool(a["align_corners"])
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=corners)


BINDERS: dict[str, Binder] = {
    "concat": _concat,
    "slice": _slice,
    "flatten": plain(lambda x: x.flatten(1)),
    "reshape": _reshape,
    "transpose": _transpose,
    "constant": _constant,
    "pad": _pad,
    "resize": _resize,
}
