"""`solve(method="exhaustive")` and its dynamic program against all schedules."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.search import solver
from iosfarm.search.method import Method
from iosfarm.search.parts import cut
from iosfarm.search.solver import NoScheduleError, solution
from iosfarm.search.space import SpaceSettings
from iosfarm.search.stage_search import StageSearch

from search_brute import Brute, Ending, Set, can_merge  # isort: skip - beside this file
from search_costs import monotone, pairs_of, problem_of  # isort: skip
from search_graphs import graphs, parallel, whole  # isort: skip

Cost = Callable[[str], float]
solve = partial(solver.solve, method="exhaustive")
STRATEGIES = [("concurrent", "merge"), ("concurrent",), ("merge",)]
spaces = st.builds(
    SpaceSettings,
    st.sampled_from([1, 2, 3, None]),
    st.sampled_from([1, 2, 8, None]),
    st.sampled_from(STRATEGIES),
    st.sampled_from(["complete", "paper"]),
)


def random_cost(seed: int, infeasible: float) -> Cost:
    """Seconds by key, the same whenever it is asked; some keys are infinite."""

    def cost(key: str) -> float:
        rng = random.Random(f"{seed} {key}")
        return math.inf if rng.random() < infeasible else rng.uniform(1e-6, 1e-3)

    return cost


def least(graph: Graph, space: SpaceSettings, cost: Cost) -> float:
    """The least cost of all schedules of a graph, gone through one by one."""
    part = whole(graph)
    brute = Brute(part.predecessors(), space.endings, space.max_group_size, space.max_groups)

    @cache
    def stages_of(state: Set) -> list[Ending]:
        return brute.stages(state, space.strategies, lambda units: can_merge(graph, units))

    @cache
    def seconds(strategy: str, groups: frozenset[Set]) -> float:
        return cost(canonical_stage(graph, [sorted(group) for group in groups], strategy).stage.key)

    return min(sum(seconds(*stage) for stage in stages) for stages in brute.schedules(brute.full, stages_of))


def as_latency(cost: Cost, asked: Counter[str] | None = None) -> Callable[[Stage], float]:
    def latency(stage: Stage) -> float:
        if asked is not None:
            asked[stage.key] += 1
        if math.isinf(cost(stage.key)):
            raise Infeasible("made up")
        return cost(stage.key)

    return latency


def arguments(space: SpaceSettings) -> dict[str, Any]:
    return {
        "max_group_size": space.max_group_size,
        "max_groups": space.max_groups,
        "strategies": space.strategies,
        "endings": space.endings,
    }


@settings(max_examples=200, deadline=None)
@given(graphs(6), spaces, st.integers(0, 10**6), st.sampled_from([0.0, 0.0, 0.2, 0.6]))
def test_equals_all_schedules(graph: Graph, space: SpaceSettings, seed: int, infeasible: float) -> None:
    cost = random_cost(seed, infeasible)
    best = least(graph, space, cost)
    asked: Counter[str] = Counter()
    if math.isinf(best):
        with pytest.raises(NoScheduleError):
            solve(whole(graph), as_latency(cost), **arguments(space))
        return
    solution = solve(whole(graph), as_latency(cost, asked), **arguments(space))
    assert solution.predicted == pytest.approx(best, rel=1e-12)
    placed = Schedule(solution.stages).place(graph, "nhwc")
    assert [p.stage.key for p in placed] == [s.key for s in solution.stages]
    assert sum(cost(s.key) for s in solution.stages) == pytest.approx(best, rel=1e-12)
    assert [s.predicted for s in solution.stages] == [cost(s.key) for s in solution.stages]
    assert (solution.certificate.kind, solution.certificate.gap) == ("exhaustive", 0.0)
    # Each distinct stage is asked for once, and all are known.
    assert set(asked.values()) == {1}
    counts = solution.counts
    assert counts.known == counts.distinct == len(asked) <= counts.stages <= counts.transitions
    assert counts.infeasible == sum(math.isinf(cost(key)) for key in asked)


@settings(max_examples=200, deadline=None)
@given(graphs(6), spaces, st.integers(0, 10**6), st.floats(0, 1))
def test_certificate_of_partial_knowledge(graph: Graph, space: SpaceSettings, seed: int, share: float) -> None:
    """Costs that respect the assumption, with all the noise that it allows: the true optimum is between the bounds."""
    problem = problem_of(whole(graph), space)
    rng = np.random.default_rng(seed)
    count = problem.factory.class_count
    costs = monotone(pairs_of(problem), rng.uniform(1e-6, 1e-3, count)) * rng.choice([0.97, 1.0], count)
    units = np.isin(np.arange(count), problem.classes[problem.singles])
    costs[~units & (rng.random(count) < rng.choice([0, 0.3]))] = math.inf
    by_key = {problem.factory.key_of(number): float(costs[number]) for number in range(count)}
    best = least(graph, space, by_key.__getitem__)
    search = StageSearch([problem], Method(certificate="structural"))
    missing = [number for number in range(count) if not units[number] and rng.random() > share]
    for number in set(range(count)) - set(missing):
        search.tell(number, float(costs[number]))
    partial_solution = solution(search, problem)
    certificate = partial_solution.certificate
    assert certificate.lower <= best * (1 + 1e-12)
    assert certificate.lower <= certificate.upper
    # What is promised can be had: every stage of the schedule is known.
    stages = partial_solution.stages
    assert not {s.key for s in stages} & {problem.factory.key_of(number) for number in missing}
    assert sum(by_key[s.key] for s in stages) == pytest.approx(certificate.upper, rel=1e-12)
    assert certificate.upper >= best * (1 - 1e-12)
    assert certificate.kind == ("structural" if missing else "exhaustive")
    assert certificate.broken == 0
    for number in missing:
        search.tell(number, float(costs[number]))
    finished = solution(search, problem)
    assert finished.predicted == pytest.approx(best, rel=1e-12)
    assert finished.certificate.kind == "exhaustive"


def test_parts_of_a_graph_make_one_schedule() -> None:
    graph = parallel([2, 1, 3])
    stages = [stage for part in cut(graph) for stage in solve(part, as_latency(random_cost(3, 0.0))).stages]
    assert {s.part for s in stages} == set(range(len(cut(graph))))
    Schedule(tuple(stages)).place(graph, "nhwc")


def test_single_units_come_first() -> None:
    """So that a search which is stopped early has a schedule."""
    asked: list[Stage] = []

    def latency(stage: Stage) -> float:
        asked.append(stage)
        return 1.0

    solve(whole(parallel([2, 1, 3])), latency)
    sizes = [len(list(stage.units)) for stage in asked]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1 < sizes[-1]


def test_no_budget_no_schedule() -> None:
    asked: Counter[str] = Counter()
    with pytest.raises(NoScheduleError, match="not measured"):
        solve(whole(parallel([1, 1])), as_latency(random_cost(1, 0.0), asked), budget=0)
    assert not asked


@pytest.mark.parametrize("seconds", [math.nan, 0.0, -1.0, -math.inf])
def test_latency_that_cannot_be(seconds: float) -> None:
    with pytest.raises(ValueError, match="latency of"):
        solve(whole(parallel([1, 1])), lambda _: seconds)


def test_error_of_the_latency_function_is_not_hidden() -> None:
    def latency(stage: Stage) -> float:
        raise ConnectionError("the worker is gone")

    with pytest.raises(ConnectionError, match="the worker is gone"):
        solve(whole(parallel([1, 1])), latency)


def test_unit_that_cannot_run_is_named() -> None:
    def latency(stage: Stage) -> float:
        if any(o.kind == "concat" for o in stage.operators):
            raise Infeasible("too large")
        return 1.0

    with pytest.raises(NoScheduleError, match=r"parallel: the unit 'concat_1' cannot run on this device"):
        solve(whole(parallel([1, 2])), latency)


def test_unit_that_runs_only_merged_is_not_blamed() -> None:
    """Single convolutions are infeasible here, but two merged ones are not; what stops the part is the concat."""

    def latency(stage: Stage) -> float:
        kinds = [o.kind for o in stage.operators]
        if "concat" in kinds or (kinds == ["conv2d"]):
            raise Infeasible("made up")
        return 1.0

    with pytest.raises(NoScheduleError, match="'concat_1' cannot run"):
        solve(whole(parallel([1, 1])), latency, strategies=("concurrent", "merge"))

    def without_concat(stage: Stage) -> float:
        return 1.0 if len(list(stage.operators)) > 1 or next(stage.operators).kind == "concat" else latency(stage)

    solution = solve(whole(parallel([1, 1])), without_concat, strategies=("merge", "concurrent"), max_group_size=1)
    assert len(solution.stages) == 3


def test_nothing_fits_together() -> None:
    """Every unit can run in some stage, but no sequence of such stages covers the part."""

    def latency(stage: Stage) -> float:
        if len(list(stage.units)) != 2:
            raise Infeasible("made up")
        return 1.0

    with pytest.raises(NoScheduleError, match="covers no way through it"):
        solve(whole(parallel([3])), latency)  # ReLU, three convolutions, concat: five units, stages of two


def test_infeasible_neighbours_leave_the_sequential_schedule() -> None:
    def latency(stage: Stage) -> float:
        if len(stage.groups) > 1:
            raise Infeasible("two streams are too many")
        return 1.0

    graph = parallel([2, 1, 1])
    solution = solve(whole(graph), latency, max_group_size=1)
    assert [len(s.groups) for s in solution.stages] == [1] * len(graph.units)
    assert solution.predicted == len(graph.units)
    assert solution.counts.infeasible > 0


def test_merge_alone_is_single_units_and_merged_ones() -> None:
    solution = solve(whole(parallel([1, 1, 1])), lambda _: 1.0, strategies=("merge",))
    assert [(s.strategy, len(s.groups)) for s in solution.stages] == [
        ("concurrent", 1),
        ("merge", 3),
        ("concurrent", 1),
    ]
    assert solution.counts.stages == 5 + 4  # single units; three pairs and a triple


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_group_size", 0),
        ("max_group_size", True),
        ("max_groups", 0),
        ("max_groups", True),
        ("strategies", ()),
        ("strategies", "merge"),
        ("endings", "some"),
    ],
)
def test_settings_that_cannot_be(setting: str, value: object) -> None:
    with pytest.raises(UsageError):
        solve(whole(parallel([1, 1])), lambda _: 1.0, **{setting: value})
