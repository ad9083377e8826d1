"""Every operator in terms of torch, bound to its attributes and weights.

The float64 reference and the CPU runtime share these, so that there is one place that says what an operator means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from iosfarm.ir.operators import Attributes

Function = Callable[..., Tensor]
"""Tensors in, one tensor out. The result may be an input itself (`dropout`); inputs are never changed."""

Bound = Mapping[str, Tensor]


def bind(kind: str, attributes: Attributes, weights: Bound) -> Function:
    """The function of one operator; KeyError for an unknown kind or a missing weight.

    A fused activation is applied in place, which is safe because the operator has just made that tensor.
    """
    function = BINDERS[kind](attributes, weights)
    activation = IN_PLACE[str(attributes.get("activation", "none"))]
    if activation is None:
        return function
    apply = activation
    return lambda *inputs: apply(function(*inputs))


def _pair(attributes: Attributes, name: str) -> tuple[int, int]:
    return cast("tuple[int, int]", attributes[name])


# -- operators with weights ------------------------------------------------------------------------------------------


def _conv2d(a: Attributes, w: Bound) -> Function:
    weight, bias = w["weight"], w["bias"] if a["bias"] else None
    stride, padding, dilation = _pair(a, "stride"), _pair(a, "padding"), _pair(a, "dilation")
    groups = cast("int", a["groups"])
    return lambda x: torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def _linear(a: Attributes, w: Bound) -> Function:
    weight, bias = w["weight"], w["bias"] if a["bias"] else None
    return lambda x: F.linear(x, weight, bias)


def _batch_norm(a: Attributes, w: Bound) -> Function:
    mean, variance, weight, bias = w["running_mean"], w["running_var"], w["weight"], w["bias"]
    eps = cast("float", a["eps"])
    return lambda x: F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)


# -- pooling ---------------------------------------------------------------------------------------------------------


def _max_pool(a: Attributes, _: Bound) -> Function:
    kernel, stride, padding = _pair(a, "kernel"), _pair(a, "stride"), _pair(a, "padding")
    ceil = bool(a["ceil_mode"])
    return lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)


def _avg_pool(a: Attributes, _: Bound) -> Function:
    kernel, stride, padding = _pair(a, "kernel"), _pair(a, "stride"), _pair(a, "padding")
    ceil, include = bool(a["ceil_mode"]), bool(a["count_include_pad"])
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, include)


def _global_avg_pool(_: Attributes, __: Bound) -> Function:
    return lambda x: x.mean((2, 3), keepdim=True)


def _global_max_pool(_: Attributes, __: Bound) -> Function:
    return lambda x: x.amax((2, 3), keepdim=True)


def _adaptive_avg_pool(a: Attributes, _: Bound) -> Function:
    size = _pair(a, "output_size")
    return lambda x: F.adaptive_avg_pool2d(x, size)


def _adaptive_max_pool(a: Attributes, _: Bound) -> Function:
    size = _pair(a, "output_size")
    return lambda x: F.adaptive_max_pool2d(x, size)


# -- elementwise -----------------------------------------------------------------------------------------------------


def _combined(two: Callable[[Tensor, Tensor], Tensor], in_place: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def combine(first: Tensor, *others: Tensor) -> Tensor:
        if not others:
            return first.clone()
        result = two(first, others[0])
        for other in others[1:]:
            grows = any(mine < theirs for mine, theirs in zip(result.shape, other.shape, strict=True))
            result = two(result, other) if grows else in_place(result, other)
        return result

    return combine


def _add(_: Attributes, __: Bound) -> Function:
    return _combined(torch.add, Tensor.add_)


def _mul(_: Attributes, __: Bound) -> Function:
    return _combined(torch.mul, Tensor.mul_)


def _leaky_relu(a: Attributes, _: Bound) -> Function:
    slope = cast("float", a["negative_slope"])
    return lambda x: F.leaky_relu(x, slope)


def _elu(a: Attributes, _: Bound) -> Function:
    alpha = cast("float", a["alpha"])
    return lambda x: F.elu(x, alpha)


def _plain(function: Function) -> Callable[[Attributes, Bound], Function]:
    return lambda _a, _w: function


def _softmax(a: Attributes, _: Bound) -> Function:
    axis = cast("int", a["axis"])
    return lambda x: torch.softmax(x, axis)


# -- layout ----------------------------------------------------------------------------------------------------------


def _concat(_: Attributes, __: Bound) -> Function:
    return lambda *inputs: torch.cat(inputs, 1)


def _slice(a: Attributes, _: Bound) -> Function:
    start, stop = cast("int", a["start"]), cast("int", a["stop"])
    return lambda x: x[:, start:stop]


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
    size = _pair(a, "size")
    if a["mode"] == "nearest":
        return lambda x: F.interpolate(x, size, mode="nearest")
    corners = bool(a["align_corners"])
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=corners)


BINDERS: dict[str, Callable[[Attributes, Bound], Function]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "global_max_pool": _global_max_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "adaptive_max_pool": _adaptive_max_pool,
    "add": _add,
    "mul": _mul,
    "relu": _plain(torch.relu),
    "relu6": _plain(F.relu6),
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "silu": _plain(F.silu),
    "gelu": _plain(F.gelu),
    "hard_sigmoid": _plain(F.hardsigmoid),
    "hard_swish": _plain(F.hardswish),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softmax": _softmax,
    "dropout": _plain(lambda x: x),
    "concat": _concat,
    "slice": _slice,
    "flatten": _plain(lambda x: x.flatten(1)),
    "pad": _pad,
    "resize": _resize,
}

IN_PLACE: dict[str, Function | None] = {
    "none": None,
    "relu": torch.relu_,
    "relu6": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "sigmoid": torch.sigmoid_,
    "tanh": torch.tanh_,
    "silu": lambda x: F.silu(x, inplace=True),
    "gelu": F.gelu,
    "hard_sigmoid": lambda x: F.hardsigmoid(x, inplace=True),
    "hard_swish": lambda x: F.hardswish(x, inplace=True),
}
