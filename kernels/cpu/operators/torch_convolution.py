"""Convolutions by torch, with weights in oneDNN's own format and the activation fused: where `onednn.py` has none.

`torch.conv2d` brings the weights into that format again in every call; the operators that torch's own compiler
(Inductor) uses take weights that were brought into it once. All convolutions of Inception V3 at batch 1, float32, two
cores with AVX-512: 44.7 ms against 54.5 ms on two threads, 77 ms against 86 ms on one.

Which format that is depends on the number of threads: with weights for two, one thread took 160 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from iosfarm.ir.operators import Attributes, Shape

_FUSED = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "sigmoid": ("sigmoid", []),
    "tanh": ("tanh", []),
    "silu": ("swish", []),
    "hard_sigmoid": ("hardsigmoid", []),
    "hard_swish": ("hardswish", []),
}
"""Our activations in the operator's words, with its numbers; gelu is left to torch, whose error function is exact."""


def packed_convolution(
    attributes: Attributes, weights: Mapping[str, Tensor], shape: Shape
) -> Callable[[Tensor], Tensor] | None:
    """A conv2d with its activation for inputs of `shape`, channels last; None where oneDNN has none.

    It has to run on as many intra-op threads as there are when it is made. Weights are copied.
    """
    weight = weights["weight"]
    fused = _FUSED.get(str(attributes["activation"]))
    if fused is None or weight.dtype != torch.float32 or not _available():
        return None
    stride, padding, dilation = (
        list(cast("tuple[int, int]", attributes[n])) for n in ("stride", "padding", "dilation")
    )
    groups, bias = cast("int", attributes["groups"]), weights["bias"].clone() if attributes["bias"] else None
    reorder: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight  # torch's stubs lack the input's shape
    packed = reorder(weight.to_mkldnn(), padding, stride, dilation, groups, list(shape))
    call = torch.ops.mkldnn._convolution_pointwise.default
    name, numbers = fused

    def convolve(x: Tensor) -> Tensor:
        result: Tensor = call(x, packed, bias, padding, stride, dilation, groups, name, numbers, "")
        return result

    return convolve


def _available() -> bool:
    """Whether this torch has oneDNN with these operators, which are not a part of its documented interface."""
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )
