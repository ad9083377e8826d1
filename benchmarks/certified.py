"""One certified search with a device of `cost_functions`, measured by the real protocol with its noise."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast

import numpy as np
from cost_functions import Floats

from iosfarm.ir.measurement import Measurement
from iosfarm.ir.stage import Stage
from iosfarm.kernels.runtime import Runtime
from iosfarm.kernels.sim.runtime import SimExecutable
from iosfarm.search.bounds import Kind
from iosfarm.search.method import Method
from iosfarm.search.problem import PartProblem
from iosfarm.search.racing import doubtful
from iosfarm.search.stage_search import StageSearch
from iosfarm.workers.measuring import measure, relative_median_error
from iosfarm.workers.settings import EFFORTS, Effort

NOISE = 0.015


@dataclass(frozen=True)
class Outcome:
    """measured: share of the distinct stages. regret: cost without noise over the optimum, less one. gap: as certified.
    held: whether the certified lower bound is below the optimum. device: seconds that the device was measuring.
    deciding: seconds of the search itself; longest: of its longest round.
    """

    measured: float
    regret: float
    gap: float
    held: bool
    broken: int
    rounds: int
    device: float
    deciding: float
    longest: float


class _Device:
    """Measures classes; counts the seconds that executions take."""

    layout = "nhwc"

    def __init__(self, latencies: Floats, seed: int) -> None:
        self.latencies = latencies
        self.seed = seed
        self.seconds = 0.0

    def prepare(self, stage: Stage) -> SimExecutable:
        key = stage.key
        number = int(key) if key.isdigit() and len(key) < 12 else None
        seconds = 2e-5 if number is None else float(self.latencies[number])
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 1 + number if number is not None else 0]))
        return _Counting(self, number is not None, seconds, NOISE, rng, (), lambda _: [])

    def measure(self, numbers: list[int], effort: Effort) -> list[Measurement]:
        stages = [cast(Stage, _Numbered(str(number))) for number in numbers]
        return list(measure(cast(Runtime, self), stages, EFFORTS[effort], conditions=dict))


class _Counting(SimExecutable):
    def __init__(self, owner: _Device, counts: bool, *rest: object) -> None:
        super().__init__(*rest)  # type: ignore[arg-type]
        self._owner, self._counts = owner, counts

    def time(self, repeats: int) -> list[float]:
        samples = super().time(repeats)
        self._owner.seconds += sum(samples) if self._counts else 0.0
        return samples


@dataclass(frozen=True)
class _Numbered:
    """What the protocol needs of a stage."""

    key: str


def run(problems: list[PartProblem], latencies: Floats, seed: int, most: int, method: Method | None = None) -> Outcome:
    """One search from an empty database, near ties checked, as a job does it."""
    search = StageSearch(problems, method or Method(), seed=seed)
    device = _Device(latencies, seed)
    asked: set[int] = set()
    sure: set[int] = set()
    deciding: list[float] = []
    rounds = 0
    while True:
        start = time.perf_counter()
        chosen = search.ask(most)
        checked = [] if chosen else doubtful(search, sure)
        if not chosen and not checked:
            chosen = search.ask(most, despite_noise=True)
        deciding.append(time.perf_counter() - start)
        if not chosen and not checked:
            break
        rounds += 1
        sure.update(checked)
        asked.update(chosen)
        units = [number for number in chosen if search.kind[number] == Kind.UNIT]
        others = [number for number in chosen if search.kind[number] != Kind.UNIT]
        for numbers, effort in ((units, Effort.NORMAL), (others, Effort.QUICK), (checked, Effort.CAREFUL)):
            for number, measurement in zip(numbers, device.measure(numbers, effort), strict=True):
                search.tell(number, measurement.median, relative_median_error(measurement.samples))
    bound = search.bound()
    cost = best = 0.0
    for problem in problems:
        seconds = latencies[problem.classes]
        cost += seconds[search.path(problem)].sum()
        best += problem.space.shortest(seconds)[0]
    return Outcome(
        len(asked) / search.class_count,
        cost / best - 1,
        bound.upper / bound.lower - 1,
        bound.lower <= best * (1 + 1e-9),
        sum(audit.broken for audit in search.audits.values()),
        rounds,
        device.seconds,
        sum(deciding),
        max(deciding),
    )
