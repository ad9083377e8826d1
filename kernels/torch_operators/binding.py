"""How an operator becomes a function of tensors: the types, and what several binders need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor

from iosfarm.ir.operators import Attributes

Function = Callable[..., Tensor]
"""Tensors in, one tensor out. The result may be an input itself (`dropout`); inputs are never changed."""

Bound = Mapping[str, Tensor]
"""An operator's weights, by parameter."""

Binder = Callable[[Attributes, Bound], Function]
"""From an operator's attributes and weights to what it computes."""


def pair(attributes: Attributes, name: str) -> tuple[int, int]:
    """The attribute as two integers: height and width."""
    return cast("tuple[int, int]", attributes[name])


def plain(function: Function) -> Binder:
    """Of operators without attributes and weights."""
    return lambda _a, _w: function
