"""What a graph is made of: operators, inputs, units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iosfarm.ir.operators import Attribute, Shape


@dataclass(frozen=True)
class Operator:
    """One node. `inputs` name operators or graph inputs; the output is named like the operator."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphInput:
    """A tensor that the user feeds: shape without the batch, e.g. (3, 299, 299)."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Unit:
    """What the scheduler places: operators that always run together, in order. The last one is its output."""

    name: str
    operators: tuple[str, ...]
