"""How the bounds of a search drew together, round by round."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

from iosfarm.ir.schedule import CertificatePoint

MOST = 256
"""Points that are kept; a longer search keeps every second one, and so on."""


class BoundHistory:
    """Is told the bounds, in seconds, whenever they are computed; keeps those that changed. clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._kept: list[CertificatePoint] = []
        self._last: CertificatePoint | None = None
        self._changes = 0
        self._every = 1

    def note(self, known: int, lower: float, upper: float) -> None:
        """known: distinct stages whose latency is known. Before there is any schedule (an infinite upper bound),
        nothing is kept.
        """
        if not upper < math.inf or (self._last and (self._last.lower, self._last.upper) == (lower, upper)):
            return
        self._last = CertificatePoint(max(0.0, self._clock() - self._began), known, lower, upper)
        if self._changes % self._every == 0:
            self._kept.append(self._last)
        self._changes += 1
        if len(self._kept) == MOST:
            del self._kept[1::2]
            self._every *= 2

    def points(self) -> tuple[CertificatePoint, ...]:
        """In the order of time, the newest included; fewer than `MOST` and one more."""
        newest = [self._last] if self._last and self._last not in self._kept[-1:] else []
        return (*self._kept, *newest)
