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
    0 where there is none; `known` where that is. statistical: whether it rests on the regression.
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


def state_number(problem: PartProblem, state: int) -> int | None:
    """Number of a state, given as a bit set of the part's units; None where the space does not hold it."""
    states = problem.space.states
    found = np.flatnonzero((states == as_words([state], states.shape[1])).all(axis=1))
    return int(found[0]) if len(found) else None


def stage_costs(search: StageSearch, problem: PartProblem) -> list[Cost]:
    """Of each stage of a part."""
    known = search.parts[id(problem)].known
    lower, structural = search.lower_bounds(problem), _structural(search, problem)
    return [
        Cost(None if math.isnan(k) else k, b, math.isnan(k) and b > s * (1 + _EXACT))
        for k, b, s in zip(known.tolist(), lower.tolist(), structural.tolist(), strict=True)
    ]


def alternatives(search: StageSearch, problem: PartProblem, state: int, after: float) -> list[Alternative]:
    """All stages that can run last in a state (by its number), by `rank`; those that cannot run come last.

    after: seconds of what runs after that state.
    """
    space = problem.space
    lower, structural = search.lower_bounds(problem), _structural(search, problem)
    expected = search.expected_latencies(problem)
    known = search.parts[id(problem)].known
    stages = space.stage_of[space.offsets[state] : space.offsets[state + 1]]
    own = stage_costs(search, problem)
    rest = [_rest(problem, cost, state) for cost in (np.where(np.isnan(known), np.inf, known), lower, structural)]
    found = []
    for i, stage in enumerate(stages.tolist()):
        measured, bound, plain = (
            after + float(cost[stage]) + float(before[i])
            for cost, before in zip((known, lower, structural), rest, strict=True)
        )
        whole = Cost(None if not measured < math.inf else measured, bound, bound > plain * (1 + _EXACT))
        prediction = float(expected[stage])
        found.append(Alternative(stage, own[stage], prediction if 0 < prediction < math.inf else None, whole))
    return sorted(found, key=lambda item: (item.rank, item.own.known is None, item.number))


def _structural(search: StageSearch, problem: PartProblem) -> NDArray[np.float64]:
    part = search.parts[id(problem)]
    return np.where(np.isnan(part.known), (1 - search.margin) * part.least, part.known)


def _rest(problem: PartProblem, cost: NDArray[np.float64], state: int) -> NDArray[np.float64]:
    """For each transition of a state the least cost of what is left after it: nothing for the empty state."""
    space = problem.space
    best, _ = backward(space.order, space.offsets, space.stage_of, space.next_of, cost)
    following = space.next_of[space.offsets[state] : space.offsets[state + 1]]
    return np.where(following >= 0, best[following], 0.0)
