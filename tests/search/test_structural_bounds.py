"""What a measured stage says about those that contain it, against sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.graph import Graph
from iosfarm.search.bounds import Kind, PartBounds
from iosfarm.search.latency_model import LatencyModel
from iosfarm.search.method import Method
from iosfarm.search.network_bounds import MARGIN
from iosfarm.search.space import SpaceSettings
from iosfarm.search.stage_search import StageSearch

from search_costs import branches, contains, device, monotone, pairs_of, problem_of  # isort: skip - beside this file
from search_graphs import graphs, whole  # isort: skip

spaces = st.builds(
    SpaceSettings,
    st.sampled_from([1, 2, 3, None]),
    st.sampled_from([1, 2, 8, None]),
    st.sampled_from([("concurrent", "merge"), ("concurrent",), ("merge",)]),
    st.sampled_from(["complete", "paper"]),
)


@settings(max_examples=100, deadline=None)
@given(graphs(5), spaces, st.integers(0, 10**6))
def test_longest_measured_stage_that_is_contained(graph: Graph, space: SpaceSettings, seed: int) -> None:
    """Whatever the latencies; in two portions, some infeasible, some told again."""
    problem = problem_of(whole(graph), space)
    rng = np.random.default_rng(seed)
    bounds = PartBounds(problem, LatencyModel())
    seconds = np.full(problem.factory.class_count, np.nan)
    for again in (False, False, True):
        told = rng.random(len(seconds)) < rng.random()
        told &= ~np.isnan(seconds) if again else True
        seconds[told] = rng.integers(1, 6, told.sum())
        seconds[told & (rng.random(len(seconds)) < 0.2)] = np.inf
        bounds.tell(seconds)
        bounds.contain()
        count = problem.space.stage_count
        for outer in range(count):
            inside = [bounds.known[inner] for inner in range(count) if contains(problem.space, outer, inner)]
            assert bounds.least[outer] == max([s for s in inside if np.isfinite(s)], default=0.0)


@settings(max_examples=100, deadline=None)
@given(graphs(5), spaces, st.integers(0, 10**6))
def test_margin_is_as_wide_as_the_worst_pair(graph: Graph, space: SpaceSettings, seed: int) -> None:
    """The audit finds what contradicts the assumption, in whatever order it was measured."""
    problem = problem_of(whole(graph), space)
    outer, inner = pairs = pairs_of(problem)
    rng = np.random.default_rng(seed)
    count = problem.factory.class_count
    costs = monotone(pairs, rng.uniform(1e-5, 1e-4, count)) * rng.uniform(rng.choice([0.5, 0.9, 0.98]), 1, count)
    search = StageSearch([problem], Method(certificate="structural"))
    search.bound()
    told = rng.permutation(count)[: rng.integers(0, count)]
    for number in told:
        search.tell(int(number), float(costs[number]))
        if rng.random() < 0.3:
            search.bound()
    search.bound()
    known = np.isin(outer, told) & np.isin(inner, told)
    ratios = costs[outer[known]] / costs[inner[known]]
    assert search.margin == pytest.approx(max(MARGIN, 1 - ratios.min(initial=1.0)), rel=1e-12)
    audit = search.audits["structural"]
    assert audit.audited == len(set(outer[known].tolist()))
    assert audit.broken == len(set(outer[known][ratios < (1 - MARGIN) * (1 - 1e-12)].tolist()))
    # With the margin that was found every bound on what was measured holds.
    lower = search.lower_bounds(problem)
    assert (lower >= 0).all()
    for stage in np.flatnonzero(np.isnan(search.parts[id(problem)].known)):
        contained = costs[inner[(outer == problem.classes[stage]) & np.isin(inner, told)]]
        assert lower[stage] == pytest.approx((1 - search.margin) * contained.max(initial=0.0), rel=1e-12)


def test_a_correction_takes_back_what_the_mistake_said() -> None:
    """A stage told faster than its unit widens the margin; told again, it does not."""
    problem = problem_of(whole(branches([2, 2, 1])))
    costs = device(problem, np.random.default_rng(0))
    search = StageSearch([problem], Method(certificate="structural"))
    pair = next(i for i in range(problem.space.stage_count) if len(problem.space.groups(i)) == 2)
    for stage in problem.singles:
        number = int(problem.classes[stage])
        search.tell(number, float(costs[number]))
    right = search.bound()
    number = int(problem.classes[pair])
    search.tell(number, float(costs[number]) / 100)
    assert search.bound().lower < right.lower
    assert search.margin > 0.9
    assert search.audits["structural"].broken == 1
    search.tell(number, float(costs[number]))
    assert search.bound().lower >= right.lower
    assert search.margin == MARGIN
    assert search.audits["structural"].broken == 0


def test_kinds() -> None:
    problem = problem_of(whole(branches([2, 1, 1], kinds=1)))  # first convolutions can be merged
    bounds = PartBounds(problem, LatencyModel())
    for stage in range(problem.space.stage_count):
        groups = problem.space.groups(stage)
        if problem.space.strategy(stage) == "merge":
            expected = Kind.MERGE
        elif len(groups) > 1:
            expected = Kind.CONCURRENT
        else:
            expected = Kind.GROUP if len(groups[0]) > 1 else Kind.UNIT
        assert bounds.kinds[stage] == expected
    assert set(bounds.kinds.tolist()) == set(Kind)
