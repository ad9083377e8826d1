"""The samples of one stage on one device in one environment, and their statistics."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite

from iosfarm.ir.device import Fact


class Status(StrEnum):
    """What became of a measurement."""

    OK = "ok"
    INFEASIBLE = "infeasible"  # the stage can never run on this device: a property of the stage
    FAILED = "failed"  # the infrastructure's fault: retried elsewhere, capped, reported
    TIMEOUT = "timeout"  # likewise
    QUARANTINED = "quarantined"  # measured, and not to be believed (drift, a device that disagrees with its peers)


def percentile(values: Sequence[float], share: float) -> float:
    """The `share` quantile (0..1) of `values`, linearly interpolated between order statistics.

    Raises ValueError for an empty sequence.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True)
class Measurement:
    """Samples in seconds per execution of the stage; statistics are derived from them.

    A measurement that is not `ok` has no samples and says why in `reason`. `unroll` executions were timed together
    for one sample. `conditions` is what the device told before and after (clocks in Hz, temperature in °C, …) and the
    drift of the reference stage.
    """

    stage_key: str
    status: Status
    samples: tuple[float, ...] = ()
    unroll: int = 1
    rounds: int = 0
    reason: str = ""
    worker: str = ""
    attempt: int = 1
    measured_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    conditions: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status is Status.OK:
            if not self.samples:
                raise ValueError("an ok measurement needs samples")
            if not (min(self.samples) > 0 and isfinite(sum(self.samples))):
                raise ValueError(f"samples must be positive and finite, got {self.samples}")
        elif not self.reason:
            raise ValueError(f"a measurement that is {self.status} needs a reason")

    @property
    def ok(self) -> bool:
        """True where the samples may be used."""
        return self.status is Status.OK

    @property
    def median(self) -> float:
        """Seconds; the number that the search uses."""
        return statistics.median(self.samples)

    @property
    def mad(self) -> float:
        """Median absolute deviation in seconds."""
        middle = self.median
        return statistics.median(abs(s - middle) for s in self.samples)

    @property
    def minimum(self) -> float:
        """Seconds."""
        return min(self.samples)

    @property
    def p90(self) -> float:
        """90th percentile in seconds."""
        return percentile(self.samples, 0.9)
