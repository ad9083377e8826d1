"""Made-up latencies for the stages of a part, and what a search makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.search.method import Method
from iosfarm.search.parts import Part
from iosfarm.search.problem import PartProblem, problems
from iosfarm.search.space import SpaceSettings, StateSpace
from iosfarm.search.stage_search import StageSearch

from search_graphs import whole  # isort: skip - beside this file

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def problem_of(part: Part, settings: SpaceSettings | None = None, layout: str = "nhwc") -> PartProblem:
    return problems([part], settings or SpaceSettings(), layout)[0]


def contains(space: StateSpace, outer: int, inner: int) -> bool:
    """By sets: each group of the one in a group of the other, no two in the same; a merge stage contains merge stages
    and single groups."""
    if outer == inner:
        return False
    inner_groups, outer_groups = ([frozenset(g) for g in space.groups(stage)] for stage in (inner, outer))
    if len(inner_groups) > 1 and space.strategy(inner) != space.strategy(outer):
        return False
    if len(inner_groups) == 1:
        return inner_groups[0] <= frozenset().union(*outer_groups)
    homes = [next((i for i, group in enumerate(outer_groups) if group >= g), None) for g in inner_groups]
    return None not in homes and len(set(homes)) == len(homes)


def pairs_of(problem: PartProblem) -> tuple[Ints, Ints]:
    """Classes that contain others, and those that they contain."""
    space = problem.space
    found = {
        (int(problem.classes[outer]), int(problem.classes[inner]))
        for outer in range(space.stage_count)
        for inner in range(space.stage_count)
        if contains(space, outer, inner)
    }
    outer_classes = np.array([outer for outer, _ in sorted(found)], np.int64)
    return outer_classes, np.array([inner for _, inner in sorted(found)], np.int64)


def monotone(pairs: tuple[Ints, Ints], costs: Floats) -> Floats:
    """The least costs above these with which no class is faster than one that it contains."""
    closed = costs.copy()
    while True:
        before = closed.copy()
        np.maximum.at(closed, pairs[0], closed[pairs[1]])
        if (closed == before).all():
            return closed


def violations(pairs: tuple[Ints, Ints], costs: Floats, margin: float) -> int:
    """Pairs whose larger stage is faster by more than the margin."""
    return int((costs[pairs[0]] < (1 - margin) * costs[pairs[1]]).sum())


def device(
    problem: PartProblem,
    rng: np.random.Generator,
    *,
    capacity: float = 2.0,
    overhead: float = 5e-6,
    fork: float = 0.0,
    smooth: float | None = None,
) -> Floats:
    """By class: the longest group, or all units' work by what the device can do at once, whichever is more, and an
    overhead. Monotone.

    capacity: units that fill the device, infinite for one that nothing fills. smooth: exponent of a smooth maximum.
    """
    space, units = problem.space, problem.part.units
    kinds = {int(c): rng.uniform(1e-5, 1e-4) for c in dict.fromkeys(problem.classes[problem.singles].tolist())}
    seconds = [kinds[int(problem.classes[stage])] for stage in problem.singles]
    loads = {kind: rng.uniform(0.3, 1.0) for kind in kinds}
    work = [seconds[i] * loads[int(problem.classes[problem.singles[i]])] / capacity for i in range(len(units))]
    costs = np.full(problem.factory.class_count, np.nan)
    for stage in range(space.stage_count):
        groups = space.groups(stage)
        longest = max(sum(seconds[u] for u in group) for group in groups)
        total = sum(sum(work[u] for u in group) for group in groups)
        if space.strategy(stage) == "merge":
            total = max(total, 0.7 * sum(seconds[u] for group in groups for u in group))
        shared = max(longest, total) if smooth is None else (longest**smooth + total**smooth) ** (1 / smooth)
        costs[problem.classes[stage]] = shared + overhead + fork * (len(groups) - 1)
    return costs


def drive(search: StageSearch, costs: Floats, *, batch: int = 64, stages: int | None = None) -> int:
    """Answer what a search asks for until it asks for no more, or for so many stages; returns how many."""
    answered = 0
    while chosen := search.ask(batch):
        for number in chosen:
            if answered == stages:
                return answered
            search.tell(number, float(costs[number]))
            answered += 1
    return answered


def searched(
    problem: PartProblem | Sequence[PartProblem],
    costs: Floats,
    method: Method,
    *,
    seed: int = 0,
    batch: int = 64,
    stages: int | None = None,
) -> StageSearch:
    """A search with these costs, done."""
    search = StageSearch([problem] if isinstance(problem, PartProblem) else problem, method, seed=seed)
    drive(search, costs, batch=batch, stages=stages)
    return search


def optimum(problem: PartProblem | Sequence[PartProblem], costs: Floats) -> float:
    """With every stage known: what the exhaustive search finds."""
    each = [problem] if isinstance(problem, PartProblem) else problem
    return sum(p.space.shortest(costs[p.classes])[0] for p in each)


def branches(lengths: Sequence[int], *, seed: int = 0, kinds: int = 6) -> Graph:
    """Branches of convolutions, one of so many kinds each, joined."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("branches")
    x = b.input((4, 8, 8))
    ends = []
    for length in lengths:
        y = x
        for _ in range(length):
            kernel, groups = [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2), (1, 2), (7, 1), (7, 2)][int(rng.integers(kinds))]
            y = b.conv2d(y, 4, kernel, padding=kernel // 2, groups=groups)
        ends.append(y)
    return b.build(b.concat(*ends))


@cache
def large(number: int) -> tuple[PartProblem, tuple[Ints, Ints]]:
    """Three branches of three blocks, and which of its classes contain which."""
    problem = problem_of(whole(branches([3, 3, 3], seed=number, kinds=8)))
    return problem, pairs_of(problem)


def concurrent(problem: PartProblem) -> Ints:
    """Classes of stages with several groups."""
    groups = np.diff(problem.space.stage_groups_offsets)
    return np.unique(problem.classes[groups > 1]).astype(np.int64)
