"""How long and how carefully to measure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class MeasureSettings:
    """Of one stage unless said otherwise; seconds.

    warmup: executions before the first sample; the shortest tells how long one takes. min_sample: executions are
    repeated until one sample takes this long, up to max_unroll of them. precision: stop when the median's standard
    error, relative to it, is below this, after min_samples at least and max_samples at most. timeout: give up after
    this long. chunk: how many stages take turns. drift: how far the reference stage may be off its median in a round,
    or further where its ordinary spread is wider. retakes: how often one round is taken again for that reason.
    """

    warmup: int = 2
    min_sample: float = 2e-4
    max_unroll: int = 8
    min_samples: int = 5
    max_samples: int = 12
    precision: float = 0.03
    timeout: float = 20.0
    chunk: int = 32
    drift: float = 0.03
    retakes: int = 1

    def __post_init__(self) -> None:
        if self.min_samples < 3 or self.max_samples < self.min_samples:
            raise ValueError(f"samples from {self.min_samples} to {self.max_samples}: need at least 3, in order")
        if min(self.warmup, self.max_unroll, self.chunk) < 1 or self.retakes < 0:
            raise ValueError("warmup, max_unroll and chunk must be at least 1, retakes at least 0")
        if min(self.min_sample, self.precision, self.timeout, self.drift) <= 0:
            raise ValueError("min_sample, precision, timeout and drift must be positive")


class Effort(StrEnum):
    """How well a stage's latency has to be known."""

    QUICK = "quick"  # to rule it out, or to find it worth more
    NORMAL = "normal"  # much rests on it: single units, the baselines
    CAREFUL = "careful"  # it is about to be part of the answer


EFFORTS = {
    Effort.QUICK: MeasureSettings(warmup=1, min_samples=3, max_samples=6, precision=0.03),
    Effort.NORMAL: MeasureSettings(),
    # The best of many noisy latencies is too good to be true (the winner's curse), so it is measured again.
    Effort.CAREFUL: MeasureSettings(min_samples=10, max_samples=25, precision=0.015),
}
