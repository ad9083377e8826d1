"""Stages that cannot run, and stages whose latency cannot be had."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import Graph
from iosfarm.ir.stage import Stage
from iosfarm.search.method import Method
from iosfarm.search.solver import NoScheduleError, solution, solve
from iosfarm.search.space import SpaceSettings
from iosfarm.search.stage_search import StageSearch

from search_costs import concurrent, device, large, optimum, problem_of  # isort: skip
from search_costs import searched  # isort: skip - beside this file
from search_graphs import graphs, parallel, whole  # isort: skip


@settings(max_examples=120, deadline=None)
@given(graphs(6), st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([1, 2, 3]))
def test_infeasible_stages(graph: Graph, seed: int, share: float, max_groups: int) -> None:
    """Any may be, units too: as good as the exhaustive search, or no schedule for both."""
    problem = problem_of(whole(graph), SpaceSettings(3, max_groups))
    rng = np.random.default_rng(seed)
    costs = device(problem, rng)
    costs[rng.random(len(costs)) < share] = math.inf
    best = optimum(problem, costs)
    search = searched(problem, costs, Method(gap=0, certificate="structural"), batch=4)
    if math.isinf(best):
        assert not search.path(problem)
        with pytest.raises(NoScheduleError):
            solution(search, problem)
        return
    found = solution(search, problem)
    assert found.predicted == pytest.approx(best, rel=1e-11)
    assert found.certificate.lower == pytest.approx(best, rel=1e-11)


@pytest.mark.parametrize("certificate", ["structural", "statistical"])
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_many_infeasible_concurrent_stages(certificate: str, share: float) -> None:
    """Of a part large enough for statistics, which then know only what can run."""
    problem, _ = large(2)
    rng = np.random.default_rng(0)
    costs = device(problem, rng, smooth=4.0)
    several = concurrent(problem)
    costs[several[rng.random(len(several)) < share]] = math.inf
    method = Method(gap=0.01, certificate=certificate, confidence=0.9)
    search = searched(problem, costs, method)
    best = optimum(problem, costs)
    assert best <= search.bound().upper * (1 + 1e-12) <= 1.01 * best * (1 + 1e-9)
    assert search.bound().lower <= best * (1 + 1e-9)
    assert solution(search, problem).counts.infeasible == np.isinf(search.seconds).sum() > 0


@pytest.mark.parametrize("method", ["certified", "exhaustive"])
def test_unit_that_cannot_run_is_named(method: str) -> None:
    def latency(stage: Stage) -> float:
        if any(operator.kind == "concat" for operator in stage.operators):
            raise Infeasible("too large")
        return 1.0

    with pytest.raises(NoScheduleError, match=r"parallel: the unit 'concat_1' cannot run on this device"):
        solve(whole(parallel([1, 2])), latency, method=method)


def test_unit_that_runs_in_company_only() -> None:
    """Its latency alone is missing, the schedule is not."""

    def latency(stage: Stage) -> float:
        if len(list(stage.operators)) == 1 and next(iter(stage.operators)).kind == "concat":
            raise Infeasible("made up")
        return 1.0 + 0.1 * len(stage.groups)

    for certificate in ("structural", "statistical"):
        found = solve(whole(parallel([2, 2])), latency, gap=0, certificate=certificate, confidence=0.5)
        best = solve(whole(parallel([2, 2])), latency, method="exhaustive")
        assert found.predicted == pytest.approx(best.predicted)


# -- stages whose latency cannot be had ------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(graphs(6), st.integers(0, 10**6), st.floats(0, 0.7))
def test_blocked_stages_are_not_used(graph: Graph, seed: int, share: float) -> None:
    """The best schedule without them is found, units among them or not; the lower bound allows for them."""
    problem = problem_of(whole(graph))
    rng = np.random.default_rng(seed)
    costs = device(problem, rng)
    blocked = rng.random(len(costs)) < share
    usable = np.where(blocked, math.inf, costs)
    search = StageSearch([problem], Method(gap=0, certificate="structural"))
    while chosen := search.ask(4):
        for number in chosen:
            if blocked[number]:
                search.block(number)
            else:
                search.tell(number, float(costs[number]))
    assert not search.waiting
    bound = search.bound()
    assert bound.upper == pytest.approx(optimum(problem, usable), rel=1e-11)
    assert bound.lower <= optimum(problem, costs) * (1 + 1e-11)
    assert np.isnan(search.seconds[blocked]).all()


def test_a_blocked_unit_does_not_end_statistics() -> None:
    problem, _ = large(0)
    costs = device(problem, np.random.default_rng(0), smooth=4.0)
    blocked = int(problem.classes[problem.singles[4]])
    search = StageSearch([problem], Method(gap=0.01, confidence=0.9))
    while chosen := search.ask(32):
        for number in chosen:
            if number == blocked:
                search.block(number)
            else:
                search.tell(number, float(costs[number]))
    bound, part = search.bound(), search.parts[id(problem)]
    structural = np.where(np.isnan(part.known), (1 - search.margin) * part.least, part.known)
    assert (search.lower_bounds(problem) > structural * (1 + 1e-9)).mean() > 0.3
    without = costs.copy()
    without[blocked] = math.inf
    assert bound.upper <= 1.01 * optimum(problem, without) * (1 + 1e-9)
    assert bound.lower <= optimum(problem, costs) * (1 + 1e-9)
    search.tell(blocked, float(costs[blocked]))  # it can be had after all
    assert search.bound().upper <= bound.upper


def test_all_blocked_is_no_schedule() -> None:
    problem = problem_of(whole(parallel([1, 1])))
    search = StageSearch([problem], Method())
    while chosen := search.ask(8):
        for number in chosen:
            search.block(number)
    with pytest.raises(NoScheduleError, match="not measured"):
        solution(search, problem)
