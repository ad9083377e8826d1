"""Conformal calibration: how far below its prediction a latency may be, and whether that held.

Split conformal prediction (Vovk et al., 2005; Lei et al., JASA 2018) on the leave-one-out errors of a random sample of
the stages: of n scores the ceil((n + 1) * confidence)-th smallest bounds the next one with that probability. The stages
that a search chooses are no random sample, so they do not calibrate; but each is audited when it is measured, and one
that is below its bound joins the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REFUTED = 0.001
"""Probability below which as many broken bounds as were seen are not taken for chance."""


def sample_size(confidence: float) -> int:
    """Scores that a quantile at this confidence needs: (n + 1) * confidence <= n."""
    return math.ceil(confidence / (1 - confidence) - 1e-9)


def conformal_quantile(scores: NDArray[np.float64] | Sequence[float], confidence: float) -> float:
    """The score that the next one exceeds with probability 1 - confidence at most; infinite for too few scores."""
    ordered = np.sort(np.asarray(scores, np.float64))
    rank = math.ceil((len(ordered) + 1) * confidence - 1e-9)
    return float(ordered[rank - 1]) if rank <= len(ordered) else math.inf


class Audit:
    """Bounds that were put to the test by a measurement, of one kind."""

    def __init__(self, audited: int = 0, broken: int = 0) -> None:
        self.audited = audited
        self.broken = broken

    def add(self, *, held: bool) -> None:
        """Count one."""
        self.audited += 1
        self.broken += not held

    def refuted(self, confidence: float) -> bool:
        """Whether more bounds were broken than bounds of this confidence would be, but for a chance of `REFUTED`."""
        return self.broken > 1 and _at_least(self.broken, self.audited, 1 - confidence) < REFUTED


def _at_least(successes: int, trials: int, probability: float) -> float:
    """Upper tail of the binomial distribution."""
    below = sum(
        math.exp(_log_choose(trials, k) + k * math.log(probability) + (trials - k) * math.log1p(-probability))
        for k in range(successes)
    )
    return max(0.0, 1 - below)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
