"""Solving a part: from stage latencies to the best sequence of stages, with a certificate.

The dynamic program of IOS (Ding et al., MLSys 2021, algorithm 1): the best latency of a state is the least, over its
endings, of the best latency of what remains plus the ending's own. It is a shortest path from the full state to the
empty one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.errors import Infeasible, IosfarmError, UsageError
from iosfarm.ir.schedule import Certificate, ScheduledStage
from iosfarm.ir.stage import STRATEGIES, Stage
from iosfarm.search.parts import Part
from iosfarm.search.problem import PartProblem
from iosfarm.search.space import SpaceSettings

METHODS = ("exhaustive",)
MARGIN = 0.03
"""Share by which noise may make a larger stage look faster than a smaller one that it contains."""

ASSUMPTION = (
    f"a stage is not faster than any single unit of it, within {MARGIN:.0%}: used for the stages without a measurement"
)


class NoScheduleError(IosfarmError):
    """No schedule can be made of what is known: a unit cannot run on this device, or was not measured yet."""


@dataclass(frozen=True)
class Counts:
    """Size of a part's search space, and how much of it is known. `distinct` counts keys."""

    states: int
    transitions: int
    stages: int
    distinct: int
    known: int
    infeasible: int


@dataclass(frozen=True)
class Solution:
    """The best stages of a part in the order they run; `stage_numbers` are those of the part's state space."""

    stages: tuple[ScheduledStage, ...]
    stage_numbers: tuple[int, ...]
    certificate: Certificate
    counts: Counts

    @property
    def predicted(self) -> float:
        """Seconds."""
        return self.certificate.upper


class PartSearch:
    """A part being solved: says what it still wants to know, is told, and has an answer at any time."""

    def __init__(self, problem: PartProblem) -> None:
        self.problem = problem
        self._numbers: dict[str, list[int]] = {}
        for number, key in enumerate(problem.keys):
            self._numbers.setdefault(key, []).append(number)
        self._cost: NDArray[np.float64] = np.full(problem.space.stage_count, np.nan)

    def wanted(self) -> list[str]:
        """Keys whose latency is not known: single units first, so that there is a schedule early, then small stages."""
        space = self.problem.space
        sizes = {key: space.stage_units(numbers[0]).bit_count() for key, numbers in self._numbers.items()}
        unknown = [key for key, numbers in self._numbers.items() if math.isnan(self._cost[numbers[0]])]
        return sorted(unknown, key=lambda key: sizes[key])

    def stage(self, key: str) -> Stage:
        """The stage of a key of `wanted`."""
        return self.problem.stage(self._numbers[key][0])

    def knows(self, key: str) -> bool:
        """True for keys of this part."""
        return key in self._numbers

    def tell(self, key: str, seconds: float) -> None:
        """The latency of a stage; infinite for one that can never run on this device.

        Raises:
            ValueError: it is NaN, zero or negative.
        """
        if math.isnan(seconds) or seconds <= 0:
            raise ValueError(f"a latency of {seconds} s for {self.stage(key).describe()}")
        self._cost[self._numbers[key]] = seconds

    @property
    def finished(self) -> bool:
        """True when every latency is known."""
        return not np.isnan(self._cost).any()

    def solution(self) -> Solution:
        """The best schedule of what is known so far.

        Raises:
            NoScheduleError: there is none; the line names a unit that cannot run, or that was not measured.
        """
        upper, path = self.problem.space.shortest(np.where(np.isnan(self._cost), np.inf, self._cost))
        if not path:
            raise self._no_schedule()
        if self.finished:
            certificate = Certificate("exhaustive", upper, upper)
        else:
            lower, _ = self.problem.space.shortest(self._bounds())
            certificate = Certificate("structural", min(lower, upper), upper, (ASSUMPTION,))
        part = self.problem.part
        stages = []
        for number in path:
            groups = tuple(
                tuple(part.graph.units[part.units[i]].name for i in group) for group in self.problem.groups[number]
            )
            seconds = float(self._cost[number])
            stages.append(
                ScheduledStage(
                    part.index, self.problem.space.strategy(number), groups, self.problem.keys[number], seconds
                )
            )
        return Solution(tuple(stages), tuple(path), certificate, self.counts())

    def counts(self) -> Counts:
        """Size of the space and how much of it is known."""
        space = self.problem.space
        known = [numbers[0] for numbers in self._numbers.values() if not math.isnan(self._cost[numbers[0]])]
        infeasible = sum(1 for number in known if math.isinf(self._cost[number]))
        return Counts(
            len(space.states),
            len(space.stage_of),
            space.stage_count,
            len(self._numbers),
            len(known),
            infeasible,
        )

    def _bounds(self) -> NDArray[np.float64]:
        """Known latencies, and lower bounds of the others: a stage takes as long as its longest unit."""
        bounds = self._cost.copy()
        alone = np.nan_to_num(self._cost[self.problem.singles], nan=0.0, posinf=0.0)
        for number in np.flatnonzero(np.isnan(self._cost)):
            units = self.problem.space.stage_units(int(number))
            longest = max(alone[i] for i in range(len(alone)) if units >> i & 1)
            bounds[number] = (1 - MARGIN) * longest
        return bounds

    def _no_schedule(self) -> NoScheduleError:
        part = self.problem.part
        usable = 0  # units that some stage holds which can run, or may be able to
        for number in np.flatnonzero(~np.isinf(self._cost)):
            usable |= self.problem.space.stage_units(int(number))
        for i, unit in enumerate(part.units):
            if not usable >> i & 1:
                return NoScheduleError(
                    f"the unit {part.graph.units[unit].name!r} cannot run on this device",
                    where=part.graph.name,
                    hint="no schedule exists",
                )
        if self.finished:
            return NoScheduleError(
                f"part {part.index} has no schedule: what can run on this device covers no way through it",
                where=part.graph.name,
                hint="raise --max-group-size or --max-groups",
            )
        return NoScheduleError(
            f"part {part.index} has no schedule yet: single units were not measured",
            where=part.graph.name,
            hint="search again, what was measured is kept",
        )


def solve(
    part: Part,
    latency: Callable[[Stage], float],
    *,
    max_group_size: int | None = 3,
    max_groups: int | None = 8,
    strategies: Sequence[str] = STRATEGIES,
    endings: str = "complete",
    method: str = "exhaustive",
    budget: float | None = None,
    layout: str = "nhwc",
) -> Solution:
    """Solve one part with a latency function of your own.

    latency: stage -> seconds; it may raise `Infeasible`, and is called once for each distinct key. budget: seconds
    after which no further stage is asked for.

    Raises:
        UsageError: a setting that cannot be. ValueError: a latency that is NaN, zero or negative. NoScheduleError.
    """
    check_method(method)
    search = PartSearch(
        PartProblem(part, SpaceSettings(max_group_size, max_groups, tuple(strategies), endings), layout)
    )
    started = monotonic()
    for key in search.wanted():
        if budget is not None and monotonic() - started >= budget:
            break
        try:
            search.tell(key, latency(search.stage(key)))
        except Infeasible:
            search.tell(key, math.inf)
    return search.solution()


def check_method(method: str) -> None:
    """Raises UsageError for a method that does not exist."""
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}", hint=f"use one of {', '.join(METHODS)}")
