"""Schedules that are nearly as good as the best one: which stages decide between them, and what noise can have cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.lazy import cheapest, prune
from iosfarm.search.paths import backward, forward
from iosfarm.search.problem import PartProblem
from iosfarm.search.stage_search import StageSearch

_Pruned = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]

NEAR = 0.002
"""Schedules that take this much longer than the best one, relative, compete with it."""

DRAWS = 100
"""Draws from the noise of the latencies; the mean over them has converged to a tenth or so by then."""


def doubtful(search: StageSearch, sure: Collection[int], within: float = NEAR) -> list[int]:
    """Classes that the answer rests on and that are not `sure`: those of the best schedules and their near ties; and,
    where noise alone keeps the gap open, those that the lower bound is made of. The latter not where nothing was asked
    for: the same search again is to measure nothing.
    """
    numbers = set(ties(search, within))
    if search.rounds and not search.reached:
        numbers.update(search.on_shortest_paths())
    return sorted(numbers.difference(sure))


def ties(search: StageSearch, within: float) -> list[int]:
    """Classes on measured schedules that take at most `within` (relative) longer than the best one, those on the best
    one included; by class number.
    """
    found: set[int] = set()
    for problem, pruned in _near(search, within):
        found.update(problem.classes[np.unique(pruned[1])].tolist())
    return sorted(found)


def regret(search: StageSearch, *, within: float = 0.03, seed: int = 0) -> float:
    """How much longer the best schedule takes than the one that is best in truth, relative, on average over what the
    noise allows; only schedules that were measured whole compete, those that are `within` of the best.
    """
    near = list(_near(search, within))
    paths = {id(problem): search.path(problem) for problem, _ in near}
    upper = sum(search.copies(problem) * search.part_bound(problem).upper for problem, _ in near)
    rng = np.random.default_rng(seed)
    total = 0.0
    for _ in range(DRAWS):
        drawn = search.seconds * np.exp(search.unsteadiness * search.errors * rng.standard_normal(search.class_count))
        for problem, pruned in near:
            seconds = drawn[problem.classes]
            chosen = float(seconds[paths[id(problem)]].sum())
            total += search.copies(problem) * (chosen - cheapest(*pruned, seconds))
    return total / DRAWS / upper if upper > 0 else 0.0


def _near(search: StageSearch, within: float) -> Iterator[tuple[PartProblem, _Pruned]]:
    """Each distinct part that has a schedule, with the transitions of its nearly best measured ones."""
    for problem in search.distinct:
        upper = search.part_bound(problem).upper
        if not upper < np.inf:
            continue
        space, known = problem.space, search.seconds[problem.classes]
        cost = np.where(np.isnan(known), np.inf, known)
        after, _ = backward(space.order, space.offsets, space.stage_of, space.next_of, cost)
        before = forward(space.order, space.offsets, space.stage_of, space.next_of, cost)
        limit = upper * (1 + within) * (1 + 1e-12)
        yield problem, prune(space.order, space.offsets, space.stage_of, space.next_of, cost, before, after, limit)
