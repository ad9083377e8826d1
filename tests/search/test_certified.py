"""The certified search against the exhaustive one, on costs that respect what its certificate assumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.graph import Graph
from iosfarm.ir.stage import Stage
from iosfarm.search.budget import Budget
from iosfarm.search.calibration import sample_size
from iosfarm.search.method import Method
from iosfarm.search.network_bounds import MARGIN
from iosfarm.search.problem import PartProblem, problems
from iosfarm.search.solver import NoScheduleError, solution, solve
from iosfarm.search.space import SpaceSettings
from iosfarm.search.stage_search import StageSearch

from search_costs import (  # isort: skip - beside this file
    Floats,
    Ints,
    branches,
    device,
    drive,
    monotone,
    optimum,
    pairs_of,
    problem_of,
    searched,
    violations,
)
from search_graphs import graphs, parallel, whole  # isort: skip

Costs = Callable[[PartProblem, tuple[Ints, Ints], np.random.Generator], Floats]


def uniform(problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator) -> Floats:
    """Nothing but monotone."""
    return monotone(pairs, rng.uniform(1e-5, 1e-4, problem.factory.class_count))


def interfering(problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator) -> Floats:
    """A device on which some stages disturb each other."""
    costs = device(problem, rng, capacity=rng.uniform(1, 4))
    return monotone(pairs, costs * rng.uniform(0.8, 1.25, len(costs)))


def noisy(problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator) -> Floats:
    """All the noise that the margin takes."""
    return interfering(problem, pairs, rng) * rng.choice([1 - MARGIN, 1.0], problem.factory.class_count)


def on_device(
    problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator, *, capacity: float, smooth: float | None
) -> Floats:
    return device(problem, rng, capacity=capacity, fork=rng.uniform(0, 3e-6), smooth=smooth)


HONEST: dict[str, Costs] = {
    "never full": partial(on_device, capacity=math.inf, smooth=None),
    "full late": partial(on_device, capacity=2.5, smooth=None),
    "full early": partial(on_device, capacity=0.5, smooth=None),
    "smooth": partial(on_device, capacity=1.5, smooth=4.0),
    "interfering": interfering,
    "uniform": uniform,
    "noisy": noisy,
}
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


# -- statistical bounds --------------------------------------------------------------------------------------------


@cache
def large(number: int = 0) -> tuple[PartProblem, tuple[Ints, Ints]]:
    """A part with hundreds of stages."""
    problem = problem_of(whole(branches([3, 3, 3], seed=number, kinds=8)))
    return problem, pairs_of(problem)


WELL_BEHAVED = ["never full", "full late", "full early", "smooth"]


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("family", [*WELL_BEHAVED, "interfering"])
def test_statistical_certificate(family: str, confidence: float) -> None:
    """Its lower bound is seldom above the optimum, which it finds with few stages measured."""
    seeds, wrong, worse, measured = 40, 0, 0, 0.0
    for seed in range(seeds):
        problem, pairs = large(seed % 4)
        costs = HONEST[family](problem, pairs, np.random.default_rng(seed))
        search = searched(problem, costs, Method(gap=0.01, confidence=confidence), seed=seed)
        bound, best = search.bound(), optimum(problem, costs)
        wrong += bound.lower > best * (1 + 1e-9)
        worse += bound.upper > best * (1 + 0.01) * (1 + 1e-9)
        measured += float((~np.isnan(search.seconds)).mean()) / seeds
        assert bound.upper <= bound.lower * 1.01 * (1 + 1e-9)
        assert bound.upper >= best * (1 - 1e-9)
    assert wrong <= seeds * (1 - confidence) * (1 if family in WELL_BEHAVED else 2.5)
    assert worse <= wrong
    assert measured < (0.8 if family == "full early" else 0.3)  # where nothing is gained all schedules are alike
    assert worse <= seeds * (1 - confidence)


def test_statistical_bounds_hold_as_often_as_they_say() -> None:
    """Of the stages that were not measured; the search chooses where it measures, and none of it may bias this."""
    held = []
    for seed in range(30):
        problem, pairs = large(seed % 4)
        costs = interfering(problem, pairs, np.random.default_rng(seed))
        search = searched(problem, costs, Method(gap=0.01, confidence=0.9), seed=seed)
        unknown = np.isnan(search.parts[id(problem)].known)
        held.append(
            float(np.mean(search.lower_bounds(problem)[unknown] <= costs[problem.classes][unknown] * (1 + 1e-9)))
        )
    assert np.mean(held) >= 0.9


def test_certificate_says_what_it_rests_on() -> None:
    problem, _ = large()
    costs = device(problem, np.random.default_rng(0), smooth=4.0, fork=1e-6)
    found = {}
    for kind in ("statistical", "structural"):
        search = searched(problem, costs, Method(gap=0.01, certificate=kind, confidence=0.95))
        found[kind] = solution(search, problem).certificate
        assert found[kind].kind == kind
    structural, statistical = found["structural"], found["statistical"]
    assert structural.confidence is None
    assert statistical.confidence == 0.95
    assert statistical.structural is not None
    assert statistical.structural < statistical.lower
    assert len(structural.assumptions) == 1 < len(statistical.assumptions)
    assert "3.0%" in structural.assumptions[0]
    assert "0.95" in statistical.assumptions[1]
    assert structural.audited > 0
    assert structural.broken == 0


def test_a_part_too_small_to_sample_gets_structural_bounds() -> None:
    problem = problem_of(whole(branches([2, 2, 1], kinds=8)))
    costs = device(problem, np.random.default_rng(0), smooth=4.0)
    search = StageSearch([problem], Method(gap=0.0))
    assert len(search.predictions.population.nonzero()[0]) < 8 * sample_size(0.99)
    drive(search, costs)
    assert not search.bound().statistical
    assert search.bound().upper == pytest.approx(optimum(problem, costs), rel=1e-11)


@pytest.mark.parametrize(("certificate", "scale"), [
    ("structural", 2.0**10), ("structural", 2.0**-20), ("statistical", 2.0**-20), ("statistical", 1e3),
    ("statistical", 1e-6),
])  # fmt: skip
@pytest.mark.parametrize("family", ["full late", "interfering"])
def test_unit_of_time_does_not_matter(certificate: str, family: str, scale: float) -> None:
    """The same stages are asked for. Structural bounds tie often, and what rounding makes of ties is open: for them
    powers of two."""
    problem, pairs = large()
    costs = HONEST[family](problem, pairs, np.random.default_rng(1))
    method = Method(gap=0.005, certificate=certificate, confidence=0.9)
    ours, theirs = StageSearch([problem], method), StageSearch([problem], method)
    while chosen := ours.ask(16):
        assert theirs.ask(16) == chosen
        for number in chosen:
            ours.tell(number, float(costs[number]))
            theirs.tell(number, scale * float(costs[number]))
    assert theirs.ask(16) == []
    assert theirs.bound().upper == pytest.approx(scale * ours.bound().upper, rel=1e-9)
    assert theirs.bound().lower == pytest.approx(scale * ours.bound().lower, rel=1e-6)


@pytest.mark.parametrize("scale", [1e3, 1e-6])
def test_unit_of_time_does_not_matter_to_structural_bounds(scale: float) -> None:
    problem, pairs = large()
    costs = interfering(problem, pairs, np.random.default_rng(1))
    method = Method(gap=0, certificate="structural")
    ours, theirs = searched(problem, costs, method), searched(problem, scale * costs, method)
    assert theirs.bound().upper == pytest.approx(scale * ours.bound().upper, rel=1e-9)
    assert theirs.bound().lower == pytest.approx(scale * ours.bound().lower, rel=1e-9)
    counts = [int((~np.isnan(search.seconds)).sum()) for search in (ours, theirs)]
    assert counts[0] == pytest.approx(counts[1], rel=0.1)


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
