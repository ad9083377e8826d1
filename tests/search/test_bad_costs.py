"""Costs that contradict what the certificates assume, latencies that cannot be, and stages that cannot run."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.stage import Stage
from iosfarm.search.bounds import Kind
from iosfarm.search.budget import Budget
from iosfarm.search.calibration import sample_size
from iosfarm.search.method import Method
from iosfarm.search.network_bounds import MARGIN
from iosfarm.search.problem import PartProblem
from iosfarm.search.solver import NoScheduleError, solution, solve
from iosfarm.search.space import SpaceSettings
from iosfarm.search.stage_search import StageSearch

from search_costs import Floats, Ints, branches, device, drive, optimum, pairs_of, problem_of  # isort: skip
from search_costs import searched, violations  # isort: skip - beside this file
from search_graphs import graphs, parallel, whole  # isort: skip

# -- costs that contradict -------------------------------------------------------------------------------------------


@cache
def large(number: int) -> tuple[PartProblem, tuple[Ints, Ints]]:
    problem = problem_of(whole(branches([3, 3, 3], seed=number, kinds=8)))
    return problem, pairs_of(problem)


def concurrent(problem: PartProblem) -> Ints:
    groups = np.diff(problem.space.stage_groups_offsets)
    return np.unique(problem.classes[groups > 1]).astype(np.int64)


def arbitrary(problem: PartProblem, rng: np.random.Generator) -> Floats:
    return rng.uniform(1e-5, 1e-4, problem.factory.class_count)


def frozen_noise(problem: PartProblem, rng: np.random.Generator) -> Floats:
    """A fifth, the same whenever it is asked."""
    costs = device(problem, rng, capacity=rng.uniform(1, 4), smooth=4.0)
    return costs * np.exp(rng.normal(0, 0.2, len(costs)))


def contrary(problem: PartProblem, rng: np.random.Generator) -> Floats:
    """The more work a concurrent stage holds the faster it is."""
    costs = device(problem, rng, capacity=rng.uniform(1, 4))
    several = concurrent(problem)
    costs[several] = 1.5 * np.median(costs) ** 2 / costs[several]
    return costs


def exceptions(problem: PartProblem, rng: np.random.Generator) -> Floats:
    """A quarter of the concurrent stages are much faster than they should be: more than confidence allows for."""
    costs = device(problem, rng, capacity=rng.uniform(1, 4), smooth=4.0)
    several = concurrent(problem)
    costs[several[rng.random(len(several)) < 0.25]] *= 0.6
    return costs


BAD: dict[str, Callable[[PartProblem, np.random.Generator], Floats]] = {
    "arbitrary": arbitrary,
    "frozen noise": frozen_noise,
    "contrary": contrary,
    "exceptions": exceptions,
}


@pytest.mark.parametrize("family", BAD)
@pytest.mark.parametrize(("certificate", "confidence"), [("structural", 0.99), ("statistical", 0.95)])
def test_the_audit_notices(family: str, certificate: str, confidence: float) -> None:
    """Whoever reads the certificate sees that it does not hold; and where it claims too much it says so."""
    seeds, wrong = 24, 0
    for seed in range(seeds):
        problem, pairs = large(seed % 3)
        costs = BAD[family](problem, np.random.default_rng(seed))
        assert violations(pairs, costs, MARGIN) > 0
        method = Method(gap=0.01, certificate=certificate, confidence=confidence)
        search = searched(problem, costs, method, seed=seed)
        found, best = solution(search, problem).certificate, optimum(problem, costs)
        assert found.broken > 0
        assert found.broken <= found.audited
        assert search.margin > MARGIN
        assert "widened" in found.assumptions[0]
        assert f"{search.margin:.1%}" in found.assumptions[0]
        assert found.upper >= best * (1 - 1e-9)
        wrong += found.lower > best * (1 + 1e-9)
    assert wrong <= (0.1 if certificate == "structural" else 0.4) * seeds


@pytest.mark.parametrize("family", BAD)
def test_with_everything_measured_bad_costs_are_as_good_as_others(family: str) -> None:
    problem, _ = large(0)
    costs = BAD[family](problem, np.random.default_rng(0))
    search = StageSearch([problem], Method(name="exhaustive"))
    drive(search, costs)
    found = solution(search, problem).certificate
    assert (found.kind, found.lower, found.upper) == ("exhaustive", found.upper, pytest.approx(optimum(problem, costs)))


def test_statistical_margins_widen() -> None:
    """What is told faster than its bound joins the scores: the same stage's bound falls below it."""
    problem, _ = large(0)
    costs = device(problem, np.random.default_rng(0), smooth=4.0)
    search = searched(problem, costs, Method(gap=0.0, confidence=0.9), stages=150)
    before = search.lower_bounds(problem).copy()
    unknown = np.isnan(search.parts[id(problem)].known)
    unsure = [int(s) for s in np.flatnonzero(unknown) if search.parts[id(problem)].kinds[s] == Kind.CONCURRENT]
    audited = search.audits["statistical"].audited
    for stage in unsure[:40]:
        search.tell(int(problem.classes[stage]), 0.7 * float(before[stage]))
    count = len(np.unique(problem.classes[unsure[:40]]))
    assert search.audits["statistical"].broken >= count
    assert search.audits["statistical"].audited >= audited + count
    after = search.lower_bounds(problem)
    left = np.isnan(search.parts[id(problem)].known)
    assert (after[left] < before[left]).mean() > 0.95
    # Those that were broken are among the scores, of which nine in ten are below the quantile.
    told = np.unique(problem.classes[unsure[:40]])
    assert (search.predictions._bounds[told] <= search.seconds[told]).mean() > 0.7


def test_told_again_replaces() -> None:
    """Twice with contradicting latencies: the last one counts, as if it had been the only one."""
    problem, _ = large(1)
    rng = np.random.default_rng(0)
    costs = device(problem, rng, smooth=4.0)
    method = Method(gap=0.0, certificate="structural")
    search, clean = StageSearch([problem], method), StageSearch([problem], method)
    while chosen := search.ask(32):
        for number in chosen:
            search.tell(number, float(costs[number]) * rng.uniform(0.2, 5))
        search.bound()
        for number in chosen:
            search.tell(number, float(costs[number]))
            clean.tell(number, float(costs[number]))
        assert search.bound() == clean.bound()
        assert search.path(problem) == clean.path(problem)
        assert search.margin == clean.margin
    number = int(problem.classes[search.path(problem)[0]])
    search.tell(number, math.inf)
    assert number not in problem.classes[search.path(problem)]
    search.tell(number, float(costs[number]))
    assert search.bound() == clean.bound()


# -- stages that cannot run ------------------------------------------------------------------------------------------


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


# -- latencies and settings that cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["certified", "exhaustive"])
@pytest.mark.parametrize("seconds", [math.nan, 0.0, -0.0, -1.0, -math.inf, math.inf])
def test_latency_that_cannot_be(seconds: float, method: str) -> None:
    with pytest.raises(ValueError, match=r"a latency of .* for ") as caught:
        solve(whole(parallel([1, 1])), lambda _: seconds, method=method)
    assert ("raise Infeasible" in str(caught.value)) == (seconds == math.inf)


@pytest.mark.parametrize("seconds", [math.nan, 0.0, -1.0, -math.inf])
def test_latency_that_cannot_be_told(seconds: float) -> None:
    search = StageSearch([problem_of(whole(parallel([1, 1])))], Method())
    number = search.ask(1)[0]
    with pytest.raises(ValueError, match="a latency of"):
        search.tell(number, seconds)
    assert np.isnan(search.seconds).all()
    assert search.waiting


@pytest.mark.parametrize("method", ["certified", "exhaustive"])
@pytest.mark.parametrize("error", [ConnectionError("the worker is gone"), KeyboardInterrupt(), ValueError("mine")])
def test_error_of_the_latency_function_passes_untouched(error: BaseException, method: str) -> None:
    calls = 0

    def latency(stage: Stage) -> float:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise error
        return 1.0

    with pytest.raises(type(error)) as caught:
        solve(whole(parallel([2, 2, 1])), latency, method=method)
    assert caught.value is error
    assert calls == 7


@pytest.mark.parametrize("budget", [0, 0.0, Budget(stages=0), Budget(seconds=0, stages=5)])
@pytest.mark.parametrize("method", ["certified", "exhaustive"])
def test_no_budget_no_schedule(budget: Any, method: str) -> None:
    called: list[Stage] = []

    def latency(stage: Stage) -> float:
        called.append(stage)
        return 1.0

    with pytest.raises(NoScheduleError, match="not measured"):
        solve(whole(parallel([1, 1])), latency, budget=budget, method=method)
    assert not called


@pytest.mark.parametrize(
    "setting",
    [
        {"budget": -1},
        {"budget": math.nan},
        {"budget": math.inf},
        {"gap": -0.01},
        {"gap": math.nan},
        {"gap": math.inf},
        {"confidence": 0.0},
        {"confidence": 0.49},
        {"confidence": 1.0},
        {"confidence": 1.5},
        {"confidence": math.nan},
        {"method": "magic"},
        {"method": ""},
        {"certificate": "none"},
        {"endings": "some"},
    ],
)
def test_settings_that_cannot_be(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        solve(whole(parallel([1, 1])), lambda _: 1.0, **setting)
    assert caught.value.hint


@pytest.mark.parametrize("limits", [{"seconds": -1.0}, {"seconds": math.nan}, {"stages": -1}, {"stages": 1.5}])
def test_budgets_that_cannot_be(limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="a budget of"):
        Budget(**limits)


# -- the ends of a search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Method(), Method(certificate="structural"), Method(name="exhaustive")])
def test_nothing_to_ask_when_all_is_known(method: Method) -> None:
    problem, _ = large(0)
    costs = device(problem, np.random.default_rng(0))
    search = StageSearch([problem], method)
    for number in range(search.class_count):
        search.tell(number, float(costs[number]))
    assert search.ask(8) == []
    assert not search.waiting
    assert search.reached
    assert search.rounds == 0
    found = solution(search, problem)
    assert found.certificate.kind == "exhaustive"
    assert found.predicted == pytest.approx(optimum(problem, costs))


@pytest.mark.parametrize("method", [Method(gap=0, confidence=0.9), Method(gap=0, certificate="structural")])
def test_answers_in_any_order(method: Method) -> None:
    """Asked again before the answers came, it repeats nothing; what was forgotten is asked for again."""
    problem, _ = large(1)
    costs = device(problem, np.random.default_rng(3), smooth=4.0)
    search = StageSearch([problem], method)
    rng = np.random.default_rng(0)
    waiting: list[int] = []
    ever: list[int] = []
    while True:
        chosen = search.ask(8)
        assert not set(chosen) & set(ever)
        ever += chosen
        waiting += chosen
        assert search.waiting == bool(waiting)
        if not waiting:
            break
        rng.shuffle(waiting)
        for _ in range(int(rng.integers(1, len(waiting) + 1))):
            number = waiting.pop()
            search.tell(number, float(costs[number]))
    if method.certificate == "structural":
        assert search.bound().upper == pytest.approx(optimum(problem, costs), rel=1e-11)
    assert search.reached


def test_asks_ahead_of_its_answers() -> None:
    """What is waiting counts as if its answer were the expected one, so that many devices have work."""
    problem, _ = large(1)
    costs = device(problem, np.random.default_rng(3), smooth=4.0)
    search = StageSearch([problem], Method(gap=0.0, certificate="structural"))
    for number in search.ask(64):
        search.tell(number, float(costs[number]))
    asked = [len(search.ask(8)) for _ in range(10)]
    assert min(asked) > 0


@pytest.mark.parametrize("method", [Method(confidence=0.9), Method(certificate="structural"), Method("exhaustive")])
def test_what_was_forgotten_is_asked_for_again(method: Method) -> None:
    search = StageSearch([large(1)[0]], method)
    first = search.ask(8)
    assert search.ask(8) == []
    search.forget_asked()
    assert not search.waiting
    assert search.ask(8) == first


@pytest.mark.parametrize("lost", ["blocked", "infeasible"])
def test_the_random_sample_makes_up_for_what_it_loses(lost: str) -> None:
    """Statistics need so many latencies; a share of the sample has none."""
    problem, _ = large(0)
    costs = device(problem, np.random.default_rng(0), smooth=4.0)
    search = StageSearch([problem], Method(gap=0.0, confidence=0.9))
    units = set(problem.classes[problem.singles].tolist())
    for _ in range(2):
        for number in search.ask(8):
            if number % 2 or number in units:
                search.tell(number, float(costs[number]))
            elif lost == "blocked":
                search.block(number)
            else:
                search.tell(number, math.inf)
    search.ask(8)
    sampled = [
        n for n in np.flatnonzero(search.predictions.population) if not np.isnan(search.seconds[n]) or search._asked[n]
    ]
    usable = [n for n in sampled if not np.isinf(search.seconds[n])]
    assert len(usable) > sample_size(0.9)
    assert search.bound().statistical


@pytest.mark.parametrize("method", ["certified", "exhaustive"])
def test_part_of_one_unit(method: str) -> None:
    graph = parallel([1])
    part = whole(graph)
    one = type(part)(graph, 0, part.units[:1])
    found = solve(one, lambda _: 2.0, method=method, gap=0)
    assert [stage.groups for stage in found.stages] == [((graph.units[0].name,),)]
    assert (found.predicted, found.certificate.kind, found.rounds) == (2.0, "exhaustive", 1)
    assert (found.counts.states, found.counts.transitions, found.counts.known) == (1, 1, 1)
    with pytest.raises(NoScheduleError, match="cannot run"):
        solve(one, partial(_infeasible), method=method)


def _infeasible(_: Stage) -> float:
    raise Infeasible("made up")
