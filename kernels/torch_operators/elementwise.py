"""What works element by element, and softmax along an axis; activations also as they are fused."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from iosfarm.ir.operators import Attributes
from iosfarm.ir.operators.elementwise import UNBOUNDED
from iosfarm.kernels.torch_operators.binding import Binder, Bound, Function, plain


def _scale(_: Attributes, w: Bound) -> Function:
    weight = w["weight"]
    return lambda x: x * weight


def _shift(_: Attributes, w: Bound) -> Function:
    weight = w["weight"]
    return lambda x: x + weight


def _prelu(_: Attributes, w: Bound) -> Function:
    weight = w["weight"]
    return lambda x: F.prelu(x, weight)


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


def _softmax(a: Attributes, _: Bound) -> Function:
    axis = cast("int", a["axis"])
    return lambda x: torch.softmax(x, axis)


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

BINDERS: dict[str, Binder] = {
    "add": _add,
    "mul": _mul,
    "sub": plain(torch.sub),
    "div": plain(torch.div),
    "relu": plain(torch.relu),
    "relu6": plain(F.relu6),
    "sigmoid": plain(torch.sigmoid),
    "tanh": plain(torch.tanh),
    "silu": plain(F.silu),
    "gelu": plain(F.gelu),
    "hard_sigmoid": plain(F.hardsigmoid),
    "hard_swish": plain(F.hardswish),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "affine": _affine,
    "scale": _scale,
    "shift": _shift,
    "clamp": _clamp,
    "power": _power,
    "unary": _unary,
    "prelu": _prelu,
    "dropout": plain(lambda x: x),
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
"""Fused activations: applied to the tensor that the operator before has just made, and may change it."""
