"""Which operators our kernels compute. What the vocabulary has gained since, they do not, and must not seem to."""

from __future__ import annotations

from collections.abc import Sequence

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.operators import ACTIVATIONS, Attributes, Shape, spec

_WINDOW = frozenset({"kernel", "stride", "padding", "ceil_mode"})

HONOURED: dict[str, frozenset[str]] = {
    "conv2d": frozenset({"out_channels", "kernel", "stride", "padding", "dilation", "groups", "bias", "activation"}),
    "linear": frozenset({"out_features", "bias", "activation"}),
    "batch_norm": frozenset({"eps", "activation"}),
    "max_pool": _WINDOW,
    "avg_pool": _WINDOW | {"count_include_pad"},
    "global_avg_pool": frozenset(),
    "global_max_pool": frozenset(),
    "adaptive_avg_pool": frozenset({"output_size"}),
    "adaptive_max_pool": frozenset({"output_size"}),
    "add": frozenset({"activation"}),
    "mul": frozenset({"activation"}),
    **{kind: frozenset({"alpha", "negative_slope"}) for kind in ACTIVATIONS},
    "softmax": frozenset({"axis"}),
    "dropout": frozenset({"rate"}),
    "concat": frozenset(),
    "slice": frozenset({"start", "stop"}),
    "flatten": frozenset(),
    "pad": frozenset({"padding", "mode", "value"}),
    "resize": frozenset({"size", "mode", "align_corners"}),
}
"""Operator -> the attributes that its kernels look at. Any other must have its default."""

RANKS = {"linear": (2,), "batch_norm": (2, 4)}
"""Numbers of axes that an operator's kernels know, where they are fewer than the operator's."""


def check_reach(kind: str, attributes: Attributes, shapes: Sequence[Shape]) -> None:
    """Whether our kernels compute this operator on these shapes.

    Raises:
        Infeasible: they do not.
    """
    honoured = HONOURED.get(kind)
    if honoured is None:
        raise Infeasible(f"there is no CUDA kernel for {kind}")
    defaults = {**spec(kind).attributes, **spec(kind).added}
    for name, value in attributes.items():
        if name not in honoured and value != defaults.get(name):
            raise Infeasible(f"there is no CUDA kernel for {kind} with {name} {value}")
    ranks = RANKS.get(kind)
    if ranks is not None and any(len(shape) not in ranks for shape in shapes):
        raise Infeasible(f"there is no CUDA kernel for {kind} of {len(shapes[0])} axes")
