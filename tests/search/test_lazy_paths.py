"""`prune`, `pick` and `cheapest` against every path, one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from iosfarm.search.lazy import cheapest, pick, prune
from iosfarm.search.paths import backward, forward
from iosfarm.search.space import SpaceSettings, StateSpace

from search_graphs import predecessors  # isort: skip - beside this file

Floats = NDArray[np.float64]
Pruned = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]
LIMITED = SpaceSettings(2, 3, ("concurrent",))
Path = tuple[int, ...]


def paths(space: StateSpace, state: int = 0) -> Iterator[Path]:
    """Stages of every path from a state, the last stage to run first."""
    for t in range(space.offsets[state], space.offsets[state + 1]):
        rest = int(space.next_of[t])
        for behind in paths(space, rest) if rest >= 0 else [()]:
            yield (int(space.stage_of[t]), *behind)


def pruned_paths(pruned: Pruned, state: int | None = None) -> Iterator[Path]:
    offsets, stage_of, next_of = pruned
    state = len(offsets) - 2 if state is None else state
    for t in range(offsets[state], offsets[state + 1]) if state >= 0 else ():
        rest = int(next_of[t])
        for behind in pruned_paths(pruned, rest) if rest >= 0 else [()]:
            yield (int(stage_of[t]), *behind)


def transitions_of(space: StateSpace, every: list[Path]) -> set[tuple[int, int]]:
    """Units taken before, and the stage that is taken then."""
    return {(sum(space.stage_units(s) for s in path[:i]), path[i]) for path in every for i in range(len(path))}


def prune_space(space: StateSpace, cost: Floats, below: float) -> Pruned:
    arrays = (space.order, space.offsets, space.stage_of, space.next_of)
    after, _ = backward(*arrays, cost)
    pruned: Pruned = prune(*arrays, cost, forward(*arrays, cost), after, below)
    return pruned


def whole_costs(rng: np.random.Generator, stages: int) -> Floats:
    """Small integers, which add up exactly and tie often; some infinite, some zero."""
    costs = rng.integers(0, 8, stages).astype(np.float64)
    costs[rng.random(stages) < rng.choice([0, 0.2])] = np.inf
    return costs


@settings(max_examples=150, deadline=None)
@given(predecessors(5), st.integers(0, 10**6))
def test_prune_keeps_what_is_on_a_path_below(before: list[int], seed: int) -> None:
    space = StateSpace(before, LIMITED)
    rng = np.random.default_rng(seed)
    cost = whole_costs(rng, space.stage_count)
    every = list(paths(space))
    totals = [float(cost[list(path)].sum()) for path in every]
    for below in {*np.unique(totals)[:4].tolist(), 0.0, 1e9, np.inf}:
        pruned = prune_space(space, cost, below)
        left = list(pruned_paths(pruned))
        cheap = [path for path, total in zip(every, totals, strict=True) if total < below]
        assert len(left) == len(set(left))
        assert set(cheap) <= set(left) <= set(every)
        # Nothing is left that lies on none of them.
        assert len(pruned[1]) == len(transitions_of(space, cheap))
        assert transitions_of(space, left) == transitions_of(space, cheap)
        assert cheapest(*pruned, cost) == min((t for t in totals if t < below), default=np.inf)


@settings(max_examples=150, deadline=None)
@given(predecessors(5), st.integers(0, 10**6), st.integers(0, 12))
def test_pick_raises_the_shortest_path_to_enough(before: list[int], seed: int, most: int) -> None:
    """By replaying it: each class picked is on a path that is shortest so far, and they stop when none is too short."""
    space = StateSpace(before, LIMITED)
    rng = np.random.default_rng(seed)
    bound = rng.integers(0, 8, space.stage_count).astype(np.float64) + rng.random(space.stage_count) * 1e-3
    predicted = bound + rng.integers(0, 4, space.stage_count)
    classes = rng.integers(0, rng.integers(1, space.stage_count + 1), space.stage_count).astype(np.int32)
    allowed = rng.random(space.stage_count) < rng.choice([0.5, 1.0])
    every = [list(path) for path in paths(space)]
    enough = float(np.quantile([predicted[path].sum() for path in every], rng.choice([0, 0.2, 1])))
    pruned = prune_space(space, bound, enough)
    open_ = allowed.copy()
    picked = pick(*pruned, bound, predicted, classes, open_, enough, most)
    assert len(picked) == len(set(picked.tolist())) <= most
    assert allowed[picked].all()
    assert set(np.flatnonzero(allowed & ~open_)) == set(picked.tolist())
    cost, still = bound.copy(), allowed.copy()
    for number in picked:
        shortest = min(every, key=lambda path: cost[path].sum())
        assert cost[shortest].sum() < enough
        rises = {s: predicted[s] - cost[s] for s in shortest if still[classes[s]]}
        assert max(rises.values()) == max(rise for s, rise in rises.items() if classes[s] == number)
        still[number] = False
        cost = np.where(classes == number, np.maximum(cost, predicted), cost)
    shortest = min(every, key=lambda path: cost[path].sum())
    if len(picked) < most:  # then it had a reason to stop
        assert cost[shortest].sum() >= enough or not still[classes[shortest]].any()


def test_nothing_below_nothing_picked() -> None:
    space = StateSpace([0, 0, 0], LIMITED)
    cost = np.ones(space.stage_count)
    pruned = prune_space(space, cost, 0.5)
    assert [len(array) for array in pruned] == [1, 0, 0]
    assert cheapest(*pruned, cost) == np.inf
    classes = np.arange(space.stage_count, dtype=np.int32)
    open_ = np.ones(space.stage_count, np.bool_)
    assert len(pick(*pruned, cost, cost, classes, open_, 0.5, 8)) == 0
    assert open_.all()
