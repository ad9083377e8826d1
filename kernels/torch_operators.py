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
from iosfarm.ir.operators.elementwise import UNBOUNDED
from iosfarm.kernels.opaque import bind_program

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


def _conv_transpose2d(a: Attributes, w: Bound) -> Function:
    weight, bias = w["weight"], w["bias"] if a["bias"] else None
    stride, padding, dilation = _pair(a, "stride"), _pair(a, "padding"), _pair(a, "dilation")
    extra, groups = _pair(a, "output_padding"), cast("int", a["groups"])
    return lambda x: F.conv_transpose2d(x, weight, bias, stride, padding, extra, groups, dilation)


def _attention(a: Attributes, _: Bound) -> Function:
    scale, causal = cast("float", a["scale"]) or None, bool(a["causal"])

    def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scale)

    return attention


def _layer_norm(a: Attributes, w: Bound) -> Function:
    shape, eps, weight, bias = cast("tuple[int, ...]", a["shape"]), cast("float", a["eps"]), w["weight"], w["bias"]
    return lambda x: F.layer_norm(x, shape, weight, bias, eps)


def _group_norm(a: Attributes, w: Bound) -> Function:
    groups, eps, weight, bias = cast("int", a["groups"]), cast("float", a["eps"]), w["weight"], w["bias"]
    return lambda x: F.group_norm(x, groups, weight, bias, eps)


def _local_response_norm(a: Attributes, _: Bound) -> Function:
    size, alpha, beta, k = (cast("float", a[name]) for name in ("size", "alpha", "beta", "k"))
    return lambda x: F.local_response_norm(x, int(size), alpha, beta, k)


def _scale(_: Attributes, w: Bound) -> Function:
    weight = w["weight"]
    return lambda x: x * weight


def _shift(_: Attributes, w: Bound) -> Function:
    weight = w["weight"]
    return lambda x: x + weight


def _prelu(_: Attributes, w: Bound) -> Function:
    weight = w["weight"]
    return lambda x: F.prelu(x, weight)


def _opaque(a: Attributes, w: Bound) -> Function:
    return bind_program(str(a["program"]), w)


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
    # A mean over two axes sums the channels of one tensor in different orders, so that equal ones come out unequal.
    return lambda x: F.avg_pool2d(x, x.shape[2:])


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


def _affine(a: Attributes, _: Bound) -> Function:
    scale, offset = cast("float", a["scale"]), cast("float", a["offset"])
    if not offset:
        return lambda x: x * scale
    if scale == 1:
        return lambda x: x + offset
    return lambda x: (x * scale).add_(offset)


def _clamp(a: Attributes, _: Bound) -> Function:
    least, most = cast("float", a["min"]), cast("float", a["max"])
    low, high = None if least <= -UNBOUNDED else least, None if most >= UNBOUNDED else most
    if low is None and high is None:
        return Tensor.clone
    return lambda x: torch.clamp(x, low, high)


def _power(a: Attributes, _: Bound) -> Function:
    exponent = cast("float", a["exponent"])
    return lambda x: torch.pow(x, exponent)


def _unary(a: Attributes, _: Bound) -> Function:
    return UNARY_FUNCTIONS[str(a["function"])]


def _log_softmax(a: Attributes, _: Bound) -> Function:
    axis = cast("int", a["axis"])
    return lambda x: torch.log_softmax(x, axis)


def _reduce(a: Attributes, _: Bound) -> Function:
    function, axes, keep = REDUCTIONS[str(a["function"])], cast("tuple[int, ...]", a["axes"]), bool(a["keepdims"])
    return lambda x: function(x, axes, keep)


def _plain(function: Function) -> Callable[[Attributes, Bound], Function]:
    return lambda _a, _w: function


def _softmax(a: Attributes, _: Bound) -> Function:
    axis = cast("int", a["axis"])
    return lambda x: torch.softmax(x, axis)


# -- layout ----------------------------------------------------------------------------------------------------------


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
    size = _pair(a, "size")
    if a["mode"] == "nearest":
        return lambda x: F.interpolate(x, size, mode="nearest")
    corners = bool(a["align_corners"])
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=corners)


UNARY_FUNCTIONS: dict[str, Function] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "abs": torch.abs,
    "reciprocal": torch.reciprocal,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "softplus": F.softplus,
    "mish": F.mish,
    "selu": F.selu,
    "softsign": F.softsign,
    "log_sigmoid": F.logsigmoid,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}

REDUCTIONS: dict[str, Function] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.amax,
    "min": torch.amin,
    "norm": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
}

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
    "conv_transpose2d": _conv_transpose2d,
    "matmul": _plain(torch.matmul),
    "attention": _attention,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "local_response_norm": _local_response_norm,
    "reduce": _reduce,
    "sub": _plain(torch.sub),
    "div": _plain(torch.div),
    "affine": _affine,
    "scale": _scale,
    "shift": _shift,
    "clamp": _clamp,
    "power": _power,
    "unary": _unary,
    "prelu": _prelu,
    "log_softmax": _log_softmax,
    "reshape": _reshape,
    "transpose": _transpose,
    "constant": _constant,
    "opaque": _opaque,
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
