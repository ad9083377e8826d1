"""How much a search may spend."""

from __future__ import annotations

import math
from dataclasses import dataclass

from iosfarm.ir.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """seconds: of searching. stages: distinct stages to measure. None is no limit; 0 measures nothing, and answers from
    what is known.

    Raises:
        UsageError: a value that cannot be.
    """

    seconds: float | None = None
    stages: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 <= self.seconds < math.inf:
            raise UsageError(f"a budget of {self.seconds} s", hint="use 0 or more seconds")
        if self.stages is not None and (not isinstance(self.stages, int) or self.stages < 0):
            raise UsageError(f"a budget of {self.stages} stages", hint="use 0 or more")

    @classmethod
    def of(cls, value: Budget | float | None) -> Budget:
        """A budget from a number of seconds, from None, or as it is."""
        return value if isinstance(value, Budget) else cls(seconds=value)

    def spent(self, seconds: float, stages: int) -> bool:
        """Whether nothing more may be measured after so many seconds and stages."""
        over_time = self.seconds is not None and seconds >= self.seconds
        return over_time or (self.stages is not None and stages >= self.stages)

    def __str__(self) -> str:
        limits = [] if self.seconds is None else [f"{self.seconds:g} s"]
        limits += [] if self.stages is None else [f"{self.stages} stages"]
        return " and ".join(limits) or "no limit"
