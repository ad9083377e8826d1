"""What could run in place of a stage, and what it would cost: measured, or at least."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.paths import backward
from iosfarm.search.problem import PartProblem
from iosfarm.search.stage_search import StageSearch
from iosfarm.search.words import as_words

_EXACT = 1e-12


@dataclass(frozen=True)
class Cost:
    """Seconds. known: measured, infinite for what cannot run, None where it was not measured. at_least: a lower bound,
    0 where there is none; `known` where a stage's latency is. statistical: whether it rests on the regression.
    """

    known: float | None
    at_least: float
    statistical: bool


@dataclass(frozen=True)
class Alternative:
    """A stage that can run last in a state. number: in the part's space. own: the stage alone. expected: what it is
    predicted to take, None where nothing is. whole: the part, with the best of what can run before the stage: known is
    the best of what was measured whole, and at_least bounds everything else too.
    """

    number: int
    own: Cost
    expected: float | None
    whole: Cost

    @property
    def rank(self) -> float:
        """The part's seconds: as measured, else at least."""
        return self.whole.at_least if self.whole.known is None else self.whole.known


class PartCosts:
    """What is known of the stages of a part, as of now. Stages and states by their numbers in the part's space."""

    def __init__(self, search: StageSearch, problem: PartProblem) -> None:
        self._space = problem.space
        self._lower = search.lower_bounds(problem)
        self._expected = search.expected_latencies(problem)
        part = search.parts[id(problem)]
        self._known = part.known
        self._structural = np.where(np.isnan(part.known), (1 - search.margin) * part.structural, part.known)

    def of(self, stage: int) -> Cost:
        """The cost of a stage."""
        known, lower, structural = (float(a[stage]) for a in (self._known, self._lower, self._structural))
        return Cost(None if math.isnan(known) else known, lower, lower > structural * (1 + _EXACT))

    def expected(self, stage: int) -> float | None:
        """What a stage that was not measured is predicted to take; None where nothing is."""
        expected = float(self._expected[stage])
        return expected if math.isnan(self._known[stage]) and expected > self._lower[stage] else None

    def state(self, units: int) -> int | None:
        """A state, given as a bit set of the part's units; None where the space does not hold it."""
        states = self._space.states
        found = np.flatnonzero((states == as_words([units], states.shape[1])).all(axis=1))
        return int(found[0]) if len(found) else None

    def alternatives(self, state: int, after: float) -> list[Alternative]:
        """All stages that can run last in a state, by `rank`; those that cannot run at all come last.

        after: seconds of what runs after that state.
        """
        usable = np.where(np.isnan(self._known), np.inf, self._known)
        costs = [(self._known, usable), (self._lower, self._lower), (self._structural, self._structural)]
        first, end = self._space.offsets[state : state + 2]
        stages = self._space.stage_of[first:end]
        wholes = np.stack([after + own[stages] + self._before(rest, state) for own, rest in costs], axis=1)
        found = []
        for stage, (measured, lower, structural) in zip(stages.tolist(), wholes.tolist(), strict=True):
            whole = Cost(measured if measured < math.inf else None, lower, lower > structural * (1 + _EXACT))
            found.append(Alternative(stage, self.of(stage), self.expected(stage), whole))
        return sorted(found, key=lambda item: (item.rank, item.own.known is None, item.number))

    def _before(self, cost: NDArray[np.float64], state: int) -> NDArray[np.float64]:
        """For each stage that can run last in a state the least cost of what runs before it."""
        space = self._space
        best, _ = backward(space.order, space.offsets, space.stage_of, space.next_of, cost)
        following = space.next_of[space.offsets[state] : space.offsets[state + 1]]
        result: NDArray[np.float64] = np.where(following >= 0, best[following], 0.0)
        return result
