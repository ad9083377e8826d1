"""Pooling, reductions, resampling, padding of images."""

from __future__ import annotations

import math

from iosfarm.frontends.errors import NoCounterpart
from iosfarm.frontends.lowering import Result, Value
from iosfarm.frontends.rules.registry import Call, integers, number, rule


@rule("max_pool2d.default", "max_pool2d_with_indices.default")
def max_pool(call: Call) -> Result:
    call.only_first()
    kernel = call.pair("kernel_size")
    if call.pair("dilation", 1) != (1, 1):
        raise NoCounterpart("a dilated pool")
    stride = call.pair("stride") if call["stride"] else kernel
    found = call.lowering.add(
        "max_pool", [call.image()], kernel=kernel, stride=stride, padding=call.pair("padding", 0),
        ceil_mode=bool(call["ceil_mode"]),
    )  # fmt: skip
    return [found] if isinstance(call.node.types, list) else found


@rule("avg_pool2d.default")
def avg_pool(call: Call) -> Result:
    if call["divisor_override"] is not None:
        raise NoCounterpart("a pool with a divisor")
    kernel = call.pair("kernel_size")
    stride = call.pair("stride") if call["stride"] else kernel
    return call.lowering.add(
        "avg_pool", [call.image()], kernel=kernel, stride=stride, padding=call.pair("padding", 0),
        ceil_mode=bool(call["ceil_mode"]), count_include_pad=bool(call["count_include_pad"]),
    )  # fmt: skip


@rule("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default", "adaptive_max_pool2d.default")
def adaptive_pool(call: Call) -> Result:
    call.only_first()
    x, kind = call.image(), "max" if "max" in call.node.kind else "avg"
    size = call.type.shape[2:]
    if size == x.shape[2:]:
        found = x
    elif size == (1, 1):
        found = call.lowering.add(f"global_{kind}_pool", [x])
    else:
        found = call.lowering.add(f"adaptive_{kind}_pool", [x], output_size=tuple(size))
    return [found] if isinstance(call.node.types, list) else found


_REDUCTIONS = {"mean": "mean", "sum": "sum", "amax": "max", "amin": "min", "linalg_vector_norm": "norm"}


@rule("mean.dim", "sum.dim_IntList", "amax.default", "amin.default", "linalg_vector_norm.default")
def reduce(call: Call) -> Result:
    x = call.value()
    given = call["dim"]
    axes = sorted(axis % x.rank for axis in ([given] if isinstance(given, int) else integers(given or ())))
    function = _REDUCTIONS[call.node.kind.split(".")[1]]
    if not axes or x.axis in axes or (function == "norm" and call["ord"] != 2):
        raise NoCounterpart("a reduction over the batch, or another norm")
    if x.rank == 4 and axes == [2, 3] and function in ("mean", "max") and x.axis == 0:
        pooled = call.lowering.add("global_avg_pool" if function == "mean" else "global_max_pool", [x])
        return pooled if call["keepdim"] else call.lowering.reshape(pooled, x.shape[:2])
    axis = x.axis if x.axis is None or call["keepdim"] else x.axis - sum(a < x.axis for a in axes)
    keep = bool(call["keepdim"])
    return call.lowering.add("reduce", [x], batch_axis=axis, function=function, axes=tuple(axes), keepdims=keep)


@rule(
    "upsample_nearest2d.vec", "upsample_nearest2d.default", "upsample_bilinear2d.vec", "upsample_bilinear2d.default",
)  # fmt: skip
def resize(call: Call) -> Result:
    x, size = call.image(), call.type.shape[2:]
    factors = call.get("scale_factors") or [call.get("scales_h"), call.get("scales_w")]
    for axis, factor in enumerate(factors):
        # torch computes with the factor that it is given, which differs where the size had to be rounded.
        if factor is not None and not math.isclose(x.shape[2 + axis] * factor, size[axis], rel_tol=1e-9):
            raise NoCounterpart("a factor that does not divide the size")
    if "nearest" in call.node.kind:
        return call.lowering.add("resize", [x], size=tuple(size))
    corners = bool(call["align_corners"])
    return call.lowering.add("resize", [x], size=tuple(size), mode="bilinear", align_corners=corners)


@rule("pad.default", "constant_pad_nd.default", "reflection_pad2d.default", "replication_pad2d.default")
def pad(call: Call) -> Result:
    x = call.value()
    amounts = integers(call["pad"] if call.get("padding") is None else call["padding"])
    name = call.node.kind.split(".")[1]
    mode = {"reflection_pad2d": "reflect", "replication_pad2d": "replicate"}.get(name) or call.get("mode", "constant")
    value = number(call.get("value") or 0.0)
    if not any(amounts):
        return x
    while len(amounts) > 4 and not any(amounts[-2:]):
        amounts = amounts[:-2]
    if len(amounts) <= 4 and x.rank == 4 and x.axis == 0 and mode in ("constant", "reflect", "replicate"):
        padding = (*amounts, *(0,) * (4 - len(amounts)))
        return call.lowering.add("pad", [x], padding=padding, mode=mode, value=value)
    return _pad_last(call, x, amounts, mode, value)


def _pad_last(call: Call, x: Value, amounts: list[int], mode: str, value: float) -> Value:
    """Images with their channels last: height and width are padded between two transposes."""
    if x.rank != 4 or x.axis != 0 or mode != "constant" or len(amounts) != 6 or any(amounts[:2]):
        raise NoCounterpart("padding of other axes than height and width")
    first = call.lowering.transpose(x, (0, 3, 1, 2))
    padded = call.lowering.add("pad", [first], padding=tuple(amounts[2:]), mode=mode, value=value)
    return call.lowering.transpose(padded, (0, 2, 3, 1))
