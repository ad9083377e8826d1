"""Convolutions and other products of matrices, and batch norm."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from iosfarm.ir.operators import Attributes
from iosfarm.kernels.torch_operators.binding import Binder, Bound, Function, pair, plain


def _conv2d(a: Attributes, w: Bound) -> Function:
    weight, bias = w["weight"], w["bias"] if a["bias"] else None
    stride, padding, dilation = pair(a, "stride"), pair(a, "padding"), pair(a, "dilation")
    groups = cast("int", a["groups"])
    return lambda x: torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def _linear(a: Attributes, w: Bound) -> Function:
    weight, bias = w["weight"], w["bias"] if a["bias"] else None
    return lambda x: F.linear(x, weight, bias)


def _conv_transpose2d(a: Attributes, w: Bound) -> Function:
    weight, bias = w["weight"], w["bias"] if a["bias"] else None
    stride, padding, dilation = pair(a, "stride"), pair(a, "padding"), pair(a, "dilation")
    extra, groups = pair(a, "output_padding"), cast("int", a["groups"])
    return lambda x: F.conv_transpose2d(x, weight, bias, stride, padding, extra, groups, dilation)


def _attention(a: Attributes, _: Bound) -> Function:
    scale, causal = cast("float", a["scale"]) or None, bool(a["causal"])

    def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scale)

    return attention


def _batch_norm(a: Attributes, w: Bound) -> Function:
    mean, variance, weight, bias = w["running_mean"], w["running_var"], w["weight"], w["bias"]
    eps = cast("float", a["eps"])
    return lambda x: F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)


BINDERS: dict[str, Binder] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "matmul": plain(torch.matmul),
    "attention": _attention,
    "linear": _linear,
    "batch_norm": _batch_norm,
}
