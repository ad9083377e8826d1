"""The certified search against the exhaustive one, on costs that respect what its certificate assumes."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.graph import Graph
from iosfarm.ir.stage import Stage
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.network_bounds import MARGIN
from iosfarm.search.problem import PartProblem, problems
from iosfarm.search.solver import NoScheduleError, solve
from iosfarm.search.space import SpaceSettings

from search_costs import (  # isort: skip - beside this file
    Floats,
    branches,
    device,
    optimum,
    pairs_of,
    problem_of,
    searched,
    violations,
)
from search_graphs import graphs, parallel, whole  # isort: skip
from search_families import HONEST, interfering, large, uniform

spaces = st.builds(
    SpaceSettings,
    st.sampled_from([1, 2, 3, None]),
    st.sampled_from([1, 2, 3, 8, None]),
    st.sampled_from([("concurrent", "merge"), ("concurrent",), ("merge",)]),
    st.sampled_from(["complete", "paper"]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(graphs(6), st.builds(parallel, st.lists(st.integers(1, 2), min_size=2, max_size=3))), spaces, st.data()
)
def test_structural_certificate_at_gap_zero_is_the_optimum(
    graph: Graph, space: SpaceSettings, data: st.DataObject
) -> None:
    problem = problem_of(whole(graph), space)
    pairs = pairs_of(problem)
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    batch = data.draw(st.sampled_from([1, 4, 64]))
    for costs_of in HONEST.values():
        costs = costs_of(problem, pairs, rng)
        assert violations(pairs, costs, MARGIN + 1e-12) == 0  # else the test would test nothing
        if rng.random() < 0.2:  # a stage that cannot run is in none that is measured faster
            units = np.isin(np.arange(len(costs)), problem.classes[problem.singles])
            costs[~units & (rng.random(len(costs)) < 0.3)] = math.inf
        best = optimum(problem, costs)
        search = searched(problem, costs, Method(gap=0, certificate="structural"), batch=batch)
        bound = search.bound()
        assert bound.upper == pytest.approx(best, rel=1e-11)
        assert bound.lower == pytest.approx(best, rel=1e-11)
        assert search.margin <= MARGIN + 1e-12
        assert costs[problem.classes[search.path(problem)]].sum() == pytest.approx(best, rel=1e-11)


@settings(max_examples=60, deadline=None)
@given(graphs(6), spaces, st.integers(0, 10**6), st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 3.0]))
def test_structural_certificate_is_never_more_than_the_gap_above(
    graph: Graph, space: SpaceSettings, seed: int, gap: float
) -> None:
    problem = problem_of(whole(graph), space)
    pairs, rng = pairs_of(problem), np.random.default_rng(seed)
    for costs_of in HONEST.values():
        costs = costs_of(problem, pairs, rng)
        best = optimum(problem, costs)
        bound = searched(problem, costs, Method(gap=gap, certificate="structural"), batch=8).bound()
        assert best * (1 - 1e-11) <= bound.upper <= best * (1 + gap) * (1 + 1e-11)
        assert bound.lower <= best * (1 + 1e-11)
        assert bound.upper <= bound.lower * (1 + gap) * (1 + 1e-11)
        assert not bound.statistical
        assert bound.structural == bound.lower


@settings(max_examples=60, deadline=None)
@given(graphs(5), spaces, st.integers(0, 10**6))
def test_solve_both_ways(graph: Graph, space: SpaceSettings, seed: int) -> None:
    """Through the public function, with stages and keys instead of numbers."""
    problem = problem_of(whole(graph), space)
    costs = interfering(problem, pairs_of(problem), np.random.default_rng(seed))
    by_key = {problem.factory.key_of(number): float(seconds) for number, seconds in enumerate(costs)}
    asked: list[str] = []

    def latency(stage: Stage) -> float:
        asked.append(stage.key)
        return by_key[stage.key]

    both = []
    for method in ("exhaustive", "certified"):
        asked.clear()
        found = solve(
            whole(graph),
            latency,
            max_group_size=space.max_group_size,
            max_groups=space.max_groups,
            strategies=space.strategies,
            endings=space.endings,
            method=method,
            gap=0,
            certificate="structural",
        )
        assert found.counts.known == len(asked) == len(set(asked))
        assert found.predicted == pytest.approx(sum(by_key[stage.key] for stage in found.stages), rel=1e-12)
        both.append(found)
    exhaustive, certified = both
    assert exhaustive.certificate.kind == "exhaustive"
    assert exhaustive.certificate.lower == exhaustive.predicted == pytest.approx(optimum(problem, costs), rel=1e-12)
    assert certified.predicted == pytest.approx(exhaustive.predicted, rel=1e-11)
    assert certified.certificate.gap == pytest.approx(0, abs=1e-11)
    assert certified.counts.known <= exhaustive.counts.known
    assert (certified.certificate.kind == "exhaustive") == (certified.counts.known == certified.counts.distinct)


# -- at any time -----------------------------------------------------------------------------------------------------


def gap_of(problem: PartProblem, costs: Floats, method: Method, stages: int, best: float) -> tuple[float, float]:
    """(upper, gap) with so many stages measured; honest ones."""
    search = searched(problem, costs, method, batch=16, stages=stages)
    bound = search.bound()
    assert int((~np.isnan(search.seconds)).sum()) <= stages
    if method.certificate == "structural":
        assert bound.lower <= best * (1 + 1e-11)
    assert bound.upper >= best * (1 - 1e-11)
    return bound.upper, bound.upper / bound.lower - 1 if bound.lower > 0 else math.inf


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(sorted(HONEST)), st.integers(0, 10**6))
def test_the_gap_narrows_with_every_stage(family: str, seed: int) -> None:
    problem, pairs = large()
    costs = HONEST[family](problem, pairs, np.random.default_rng(seed))
    best = optimum(problem, costs)
    method = Method(gap=0, certificate="structural")
    results = [gap_of(problem, costs, method, stages, best) for stages in range(0, len(costs) + 24, 24)]
    for before, after in pairwise(results):
        assert after[0] <= before[0] * (1 + 1e-11)
        assert after[1] <= before[1] * (1 + 1e-9) + 1e-11
    assert results[0] == (math.inf, math.inf)
    assert results[-1][1] <= 1e-11


def test_with_statistics_the_schedule_improves_with_every_stage() -> None:
    """And the gap, all in all: a fit may take back what the one before it said."""
    problem, pairs = large()
    costs = interfering(problem, pairs, np.random.default_rng(1))
    best, method = optimum(problem, costs), Method(gap=0, confidence=0.9)
    results = [gap_of(problem, costs, method, stages, best) for stages in range(0, len(costs) + 8, 8)]
    for before, after in pairwise(results):
        assert after[0] <= before[0] * (1 + 1e-11)
    finite = [gap for _, gap in results if math.isfinite(gap)]
    assert finite[-1] <= 1e-11 < finite[0]
    assert max(finite[len(finite) // 2 :]) <= max(finite[: len(finite) // 2])


@pytest.mark.parametrize("stages", [0, 1, 10, 11, 40, 100, 10_000])
def test_budget_in_stages_is_respected_exactly(stages: int) -> None:
    problem, _ = large()
    costs = device(problem, np.random.default_rng(0))
    by_key = {problem.factory.key_of(number): float(seconds) for number, seconds in enumerate(costs)}
    called = 0

    def latency(stage: Stage) -> float:
        nonlocal called
        called += 1
        return by_key[stage.key]

    units = len(set(problem.classes[problem.singles].tolist()))
    run = partial(solve, problem.part, latency, gap=0, certificate="structural")
    unlimited = run().counts.known
    called = 0
    if stages < units:
        with pytest.raises(NoScheduleError, match="not measured"):
            run(budget=Budget(stages=stages))
        assert called == stages
        return
    found = run(budget=Budget(stages=stages))
    assert called == found.counts.known == min(stages, unlimited)
    assert found.certificate.lower <= optimum(problem, costs) <= found.certificate.upper * (1 + 1e-12)
    assert (found.certificate.gap > 1e-9) == (stages < unlimited)


# -- several parts ---------------------------------------------------------------------------------------------------


def test_parts_share_what_they_have_in_common() -> None:
    """Two equal parts and another one: one gap over all, no stage asked for twice."""
    graph = branches([2, 2, 2], kinds=8)
    part, other = whole(graph), whole(branches([2, 2, 2], kinds=8))
    first, second = problems([part, other], SpaceSettings(), "nhwc")
    assert first is second
    costs = uniform(first, pairs_of(first), np.random.default_rng(0))
    for gap in (0.0, 0.05):
        once = searched(first, costs, Method(gap=gap, certificate="structural"))
        twice = searched([first, second], costs, Method(gap=gap, certificate="structural"))
        assert (np.isnan(once.seconds) == np.isnan(twice.seconds)).all()
        assert twice.bound().upper == pytest.approx(2 * once.bound().upper)
        assert twice.bound().lower == pytest.approx(2 * once.bound().lower)
        assert twice.part_bound(second) == once.part_bound(first)
