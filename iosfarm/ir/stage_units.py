"""What stages are made of: operators, units, and the words that a stage is written with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iosfarm.ir.operators import Attribute, Shape

KEY_VERSION = 1
"""Raise it whenever the canonical form changes: keys of another version never match."""

STRATEGIES = ("concurrent", "merge")
"""What a search chooses from."""
STAGE_STRATEGIES = (*STRATEGIES, "mixed")
"""What a stage can have: refinement makes mixed ones of what a search has found."""
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class StageOperator:
    """One operator. A reference i >= 0 is the output of the stage's operator i; -1 - k is the stage's input k."""

    kind: str
    attributes: Mapping[str, Attribute]
    references: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True)
class StageUnit:
    """Operators that run together, numbered `first`, `first` + 1, … within the stage; the last is the output."""

    first: int
    operators: tuple[StageOperator, ...]

    @property
    def output(self) -> int:
        """Number of the operator whose output is the unit's."""
        return self.first + len(self.operators) - 1
