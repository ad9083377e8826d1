"""Pooling of images."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from iosfarm.ir.operators import Attributes
from iosfarm.kernels.torch_operators.binding import Binder, Bound, Function, pair


def _max_pool(a: Attributes, _: Bound) -> Function:
    kernel, stride, padding = pair(a, "kernel"), pair(a, "stride"), pair(a, "padding")
    ceil = bool(a["ceil_mode"])
    return lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)


def _avg_pool(a: Attributes, _: Bound) -> Function:
    kernel, stride, padding = pair(a, "kernel"), pair(a, "stride"), pair(a, "padding")
    ceil, include = bool(a["ceil_mode"]), bool(a["count_include_pad"])
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, include)


def _global_avg_pool(_: Attributes, __: Bound) -> Function:
    # A mean over two axes sums the channels of one tensor in different orders, so that equal ones come out unequal.
    return lambda x: F.avg_pool2d(x, x.shape[2:])


def _global_max_pool(_: Attributes, __: Bound) -> Function:
    return lambda x: x.amax((2, 3), keepdim=True)


def _adaptive_avg_pool(a: Attributes, _: Bound) -> Function:
    size = pair(a, "output_size")
    return lambda x: F.adaptive_avg_pool2d(x, size)


def _adaptive_max_pool(a: Attributes, _: Bound) -> Function:
    size = pair(a, "output_size")
    return lambda x: F.adaptive_max_pool2d(x, size)


BINDERS: dict[str, Binder] = {
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_max_pool": _global_max_pool,
    "global_avg_pool": _global_avg_pool,
    "adaptive_max_pool": _adaptive_max_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
}
