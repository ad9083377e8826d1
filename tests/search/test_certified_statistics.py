"""Statistical certificates: they hold as often as they say, in any unit of time."""

from __future__ import annotations

import numpy as np
import pytest

from iosfarm.search.calibration import sample_size
from iosfarm.search.method import Method
from iosfarm.search.solver import solution
from iosfarm.search.stage_search import StageSearch

from search_costs import (  # isort: skip - beside this file
    branches,
    device,
    drive,
    optimum,
    problem_of,
    searched,
)
from search_graphs import whole  # isort: skip
from search_families import HONEST, interfering, large

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
