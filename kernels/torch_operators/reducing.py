"""What looks along axes: reductions and norms."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from iosfarm.ir.operators import Attributes
from iosfarm.kernels.torch_operators.binding import Binder, Bound, Function


def _layer_norm(a: Attributes, w: Bound) -> Function:
    shape, eps, weight, bias = cast("tuple[int, ...]", a["shape"]), cast("float", a["eps"]), w["weight"], w["bias"]
    return lambda x: F.layer_norm(x, shape, weight, bias, eps)


def _group_norm(a: Attributes, w: Bound) -> Function:
    groups, eps, weight, bias = cast("int", a["groups"]), cast("float", a["eps"]), w["weight"], w["bias"]
    return lambda x: F.group_norm(x, groups, weight, bias, eps)


def _local_response_norm(a: Attributes, _: Bound) -> Function:
    size, alpha, beta, k = (cast("float", a[name]) for name in ("size", "alpha", "beta", "k"))
    return lambda x: F.local_response_norm(x, int(size), alpha, beta, k)


def _reduce(a: Attributes, _: Bound) -> Function:
    function, axes, keep = REDUCTIONS[str(a["function"])], cast("tuple[int, ...]", a["axes"]), bool(a["keepdims"])
    return lambda x: function(x, axes, keep)


REDUCTIONS: dict[str, Function] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.amax,
    "min": torch.amin,
    "norm": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
}

BINDERS: dict[str, Binder] = {
    "reduce": _reduce,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "local_response_norm": _local_response_norm,
}
