"""What computes an operator and can be told where to write the result: memory that is planned once needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

Values = list[Tensor | None]
Step = Callable[[Values], None]


@dataclass(frozen=True)
class Source:
    """Where a step finds what it reads: among the values, and always in the same memory if that is known."""

    slot: int
    tensor: Tensor | None = None


@runtime_checkable
class Prepared(Protocol):
    """Computes one tensor of others."""

    @property
    def scratch(self) -> int:
        """Bytes of memory that it needs while it runs."""
        ...

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Compute into memory of its own."""
        ...

    def step(self, sources: Sequence[Source], result: Tensor, scratch: Tensor | None) -> Step:
        """What computes into `result`, which overlaps none of the sources, again and again. scratch: bytes, at least as
        many as are needed, aligned for vectors; None where none are.
        """
        ...

    def into_part(self, pitch: int) -> Prepared | None:
        """The same for results that are a part of the channels of larger images, `pitch` of them; None where it cannot,
        or only in more time than copying takes.
        """
        ...
