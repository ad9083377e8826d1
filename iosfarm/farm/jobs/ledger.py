"""What is known of stages, by key: latencies, how well they are known, and which cannot be had."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.schedule import Schedule
from iosfarm.workers.measuring import relative_median_error
from iosfarm.workers.settings import EFFORTS, Effort


@dataclass(frozen=True)
class Known:
    """A latency that may be used: seconds (infinite: infeasible), the measurement's id in the database, and how well
    it is known: samples, and the standard error of their median (relative).
    """

    seconds: float
    measurement: int
    samples: int
    error: float


class Ledger:
    """Latencies of one job's stages. A better measurement replaces a worse one, never the other way round.

    found: keys whose first latency was in the database. given_up: that cannot be measured. sure: known as well as they
    will be. checked: measured again.
    """

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.found: set[str] = set()
        self.given_up: set[str] = set()
        self.sure: set[str] = set()
        self.checked: set[str] = set()

    def enter(
        self, key: str, measurement: Measurement, number: int, effort: Effort | None, *, found: bool
    ) -> Known | None:
        """A usable measurement; returns what is new of the stage, None where it was known better. effort: that was
        asked for, None for none. found: it was in the database before.
        """
        before = self.known.get(key)
        careful = effort is Effort.CAREFUL
        if before is not None and len(measurement.samples) <= before.samples:
            self.sure.update([key] if careful else [])
            return None
        infeasible = measurement.status is Status.INFEASIBLE
        if before is not None and infeasible:
            return None
        seconds = math.inf if infeasible else measurement.median
        error = 0.0 if infeasible else relative_median_error(measurement.samples)
        self.known[key] = Known(seconds, number, len(measurement.samples), error)
        if before is None and found:
            self.found.add(key)
        if careful or infeasible or len(measurement.samples) >= EFFORTS[Effort.CAREFUL].min_samples:
            self.sure.add(key)
        if careful:
            self.checked.add(key)
        return self.known[key]

    def give_up(self, key: str) -> bool:
        """A stage that cannot be measured; False where it is known already, and keeps its latency."""
        if key in self.known:
            self.sure.add(key)
            return False
        self.given_up.add(key)
        return True

    def settled(self, key: str) -> bool:
        """Whether nothing more is to be learned of a stage at first hand: it is known, or given up."""
        return key in self.known or key in self.given_up

    def seconds(self, key: str) -> float | None:
        """Latency of a stage: infinite where it cannot be used, None where nothing is known."""
        if key in self.given_up:
            return math.inf
        return self.known[key].seconds if key in self.known else None

    def rests_on(self, numbers: frozenset[int]) -> bool:
        """Whether some latency is that of one of these measurements."""
        return any(known.measurement in numbers for known in self.known.values())

    @property
    def infeasible(self) -> int:
        """Stages that can never run on the device."""
        return sum(1 for known in self.known.values() if math.isinf(known.seconds))

    def usable(self, schedule: Schedule) -> bool:
        """Whether the device can run all stages of a schedule, as far as is known."""
        return all(self.seconds(stage.key) != math.inf for stage in schedule.stages)

    def predicted(self, schedule: Schedule) -> Schedule:
        """A schedule with what is known of its stages' latencies."""
        stages = []
        for stage in schedule.stages:
            known = self.known.get(stage.key)
            if known is not None and math.isfinite(known.seconds):
                stage = replace(stage, predicted=known.seconds, measurement=known.measurement)
            stages.append(stage)
        return replace(schedule, stages=tuple(stages))
