"""How to search."""

from __future__ import annotations

import math
from dataclasses import dataclass

from iosfarm.ir.errors import UsageError

METHODS = ("certified", "exhaustive")
CERTIFICATES = ("statistical", "structural")


@dataclass(frozen=True)
class Method:
    """How to search. gap: (upper - lower) / lower to stop at. certificate: `statistical` (with structural bounds) or
    `structural` bounds alone. confidence: of a statistical bound, each.

    Raises:
        UsageError: a value that cannot be.
    """

    name: str = "certified"
    gap: float = 0.01
    certificate: str = "statistical"
    confidence: float = 0.99

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise UsageError(f"unknown method {self.name!r}", hint=f"use one of {', '.join(METHODS)}")
        if self.certificate not in CERTIFICATES:
            hint = f"use one of {', '.join(CERTIFICATES)}"
            raise UsageError(f"unknown certificate {self.certificate!r}", hint=hint)
        if not 0 <= self.gap < math.inf:
            raise UsageError(f"a gap of {self.gap}", hint="use 0 or more, such as 0.01")
        if not 0.5 <= self.confidence < 1:
            raise UsageError(f"a confidence of {self.confidence}", hint="use 0.5 or more and less than 1, such as 0.99")
