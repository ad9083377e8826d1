"""What an import gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from iosfarm.ir.graph import Graph
from iosfarm.kernels.runtime import Weights


@dataclass(frozen=True)
class Opaque:
    """An operator of the graph that runs whole, through torch. operators: torch's names of what is in it. where: how
    the network's author would find it.
    """

    name: str
    operators: tuple[str, ...]
    where: str

    def __str__(self) -> str:
        return f"{', '.join(self.operators)} at {self.where}"


@dataclass(frozen=True)
class Signature:
    """How a module is called. inputs: for each graph input the place of the tensor among the flattened arguments.
    outputs: for each flattened result the place among the graph's outputs, or `(value,)` of one that is no tensor.
    in_spec, out_spec: torch's tree specs of (args, kwargs) and of the result; None: plain lists. dtypes: of each
    flattened result that is of another dtype than the first input, None of the others.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int | tuple[Any], ...]
    in_spec: Any = None
    out_spec: Any = None
    dtypes: tuple[torch.dtype | None, ...] = ()


@dataclass(frozen=True)
class Imported:
    """graph: batch 1, float32. weights: by `operator.parameter`. opaque: operators without a counterpart. notices: what
    its author should know, a line each.
    """

    graph: Graph
    weights: Weights
    opaque: tuple[Opaque, ...]
    notices: tuple[str, ...]
    signature: Signature = field(default_factory=lambda: Signature((), ()))
