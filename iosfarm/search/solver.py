"""Solving one part with a latency function of your own, and what a solution is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from time import monotonic

import numpy as np

from iosfarm.ir.errors import Infeasible, IosfarmError
from iosfarm.ir.schedule import Certificate, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import STRATEGIES
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.network_bounds import MARGIN, Bound
from iosfarm.search.parts import Part
from iosfarm.search.problem import PartProblem, problems
from iosfarm.search.space import SpaceSettings
from iosfarm.search.stage_search import StageSearch

ROUND = 64
"""Stages that `solve` asks for in one round."""


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
    """The best stages of a part in the order they run; `stage_numbers` are those of the part's state space. rounds: how
    often stages were asked for.
    """

    stages: tuple[ScheduledStage, ...]
    stage_numbers: tuple[int, ...]
    certificate: Certificate
    counts: Counts
    rounds: int

    @property
    def predicted(self) -> float:
        """Seconds."""
        return self.certificate.upper


@dataclass(frozen=True)
class Solutions:
    """Of each part, in order, and of all together. measured: how often the latency function was called."""

    parts: tuple[Solution, ...]
    certificate: Certificate
    measured: int
    rounds: int


def solve(
    part: Part,
    latency: Callable[[Stage], float],
    *,
    max_group_size: int | None = 3,
    max_groups: int | None = 8,
    strategies: Sequence[str] = STRATEGIES,
    endings: str = "complete",
    method: str = "certified",
    gap: float = 0.01,
    certificate: str = "statistical",
    confidence: float = 0.99,
    budget: Budget | float | None = None,
    layout: str = "nhwc",
    seed: int = 0,
) -> Solution:
    """Solve one part with a latency function of your own; of several parts of a network `solve_parts` measures less.

    latency: stage -> seconds; it may raise `Infeasible`, and is called once for each distinct key at most. gap: of
    upper and lower bound, relative, to stop at. certificate, confidence: see `Method`. budget: after which no further
    stage is asked for; a number is seconds.

    Raises:
        UsageError: a setting that cannot be. ValueError: a latency that is NaN, infinite, zero or negative.
        NoScheduleError.
    """
    space = SpaceSettings(max_group_size, max_groups, tuple(strategies), endings)
    chosen = Method(method, gap, certificate, confidence)
    return solve_parts([part], latency, space=space, method=chosen, budget=budget, layout=layout, seed=seed).parts[0]


def solve_parts(
    parts: Sequence[Part],
    latency: Callable[[Stage], float],
    *,
    space: SpaceSettings | None = None,
    method: Method | None = None,
    budget: Budget | float | None = None,
    layout: str = "nhwc",
    seed: int = 0,
) -> Solutions:
    """Solve the parts of one graph together: they share the stages that they have in common, the regression, its random
    sample and the gap. latency, budget: as in `solve`.

    Raises:
        ValueError: a latency that is NaN, infinite, zero or negative; no part, or parts of several graphs.
        NoScheduleError.
    """
    if len({id(part.graph) for part in parts}) != 1:
        raise ValueError("the parts of one graph, one or more")
    search = StageSearch(problems(parts, space or SpaceSettings(), layout), method or Method(), seed=seed)
    allowed, started, called = Budget.of(budget), monotonic(), 0
    asked = iter(lambda: search.ask(ROUND), [])
    for number in chain.from_iterable(asked):
        if allowed.spent(monotonic() - started, called):
            break
        called += 1
        search.tell(number, _call(latency, search, number))
    solutions = tuple(solution(search, problem, part) for problem, part in zip(search.problems, parts, strict=True))
    exhaustive = not np.isnan(search.seconds).any()
    return Solutions(solutions, certificate_of(search, search.bound(), exhaustive=exhaustive), called, search.rounds)


def _call(latency: Callable[[Stage], float], search: StageSearch, number: int) -> float:
    stage = Stage.from_json(search.factory.canonical_of(number))
    try:
        seconds = float(latency(stage))
    except Infeasible:
        return math.inf
    if not 0 < seconds < math.inf:
        hint = "; raise Infeasible for a stage that cannot run" if seconds == math.inf else ""
        raise ValueError(f"a latency of {seconds} s for {stage.describe()}{hint}")
    return seconds


def solution(search: StageSearch, problem: PartProblem, part: Part | None = None) -> Solution:
    """The best schedule of a part with what is known so far. part: one that is like the problem's own.

    Raises:
        NoScheduleError: there is none; the line names a unit that cannot run, or that was not measured.
    """
    path = search.path(problem)
    if not path:
        raise _no_schedule(search, problem)
    known = search.parts[id(problem)].known
    part = part or problem.part
    stages = []
    for number in path:
        units = [[part.units[i] for i in group] for group in problem.space.groups(number)]
        placed = problem.factory.make(units, problem.space.strategy(number))
        groups = tuple(tuple(part.graph.units[unit].name for unit in group) for group in placed.groups)
        seconds = float(known[number])
        stages.append(ScheduledStage(part.index, problem.space.strategy(number), groups, placed.key, seconds))
    finished = not np.isnan(known).any()
    result = certificate_of(search, search.part_bound(problem), exhaustive=finished)
    return Solution(tuple(stages), tuple(path), result, counts(search, problem), search.rounds)


def certificate_of(search: StageSearch, bound: Bound, *, exhaustive: bool) -> Certificate:
    """What may be said of a schedule: never tighter than what held."""
    if exhaustive:
        return Certificate("exhaustive", bound.upper, bound.upper)
    audits = search.audits
    widened = f" (widened: {MARGIN:.0%} did not hold)" if f"{search.margin:.1%}" != f"{MARGIN:.1%}" else ""
    assumptions = [f"a stage is not faster than a measured one that it contains, within {search.margin:.1%}{widened}"]
    if search.shares_known:
        assumptions.append("no mix of units gets more done at once than many copies of one of them, within the same")
    if not bound.statistical:
        audit = audits["structural"]
        return Certificate(
            "structural", bound.lower, bound.upper, tuple(assumptions), audit.audited, audit.broken, bound.lower
        )
    confidence = search.method.confidence
    assumptions.append(
        f"each other stage takes at least what the regression says less the {confidence:.3g} conformal quantile of its "
        "errors on a random sample of the stages: a probability of each stage, not of the schedule"
    )
    return Certificate(
        "statistical",
        bound.lower,
        bound.upper,
        tuple(assumptions),
        audits["structural"].audited + audits["statistical"].audited,
        audits["structural"].broken + audits["statistical"].broken,
        bound.structural,
        confidence,
    )


def counts(search: StageSearch, problem: PartProblem) -> Counts:
    """Size of a part's space and how much of it is known."""
    space = problem.space
    seconds = search.seconds[np.unique(problem.classes)]
    known = int((~np.isnan(seconds)).sum())
    infeasible = int(np.isinf(seconds).sum())
    return Counts(len(space.states), len(space.stage_of), space.stage_count, len(seconds), known, infeasible)


def _no_schedule(search: StageSearch, problem: PartProblem) -> NoScheduleError:
    part, known = problem.part, search.parts[id(problem)].known
    usable = 0  # units that some stage holds which can run, or may be able to
    for number in np.flatnonzero(~np.isinf(known)):
        usable |= problem.space.stage_units(int(number))
    for i, unit in enumerate(part.units):
        if not usable >> i & 1:
            return NoScheduleError(
                f"the unit {part.graph.units[unit].name!r} cannot run on this device",
                where=part.graph.name,
                hint="no schedule exists",
            )
    if not np.isnan(known).any():
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
