"""`StateSpace` of parts whose bit sets need more than one word."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.search.candidates import merge_endings
from iosfarm.search.paths import backward, forward
from iosfarm.search.space import SpaceSettings, SpaceTooLargeError, StateSpace, part_space

from search_brute import Brute, Set  # isort: skip - beside this file
from search_graphs import parallel, whole  # isort: skip
from test_state_space import check_groups, explore, transitions_of, units_of  # isort: skip

ENDINGS = ["complete", "paper"]
BOUNDARY = [63, 64, 65, 127, 128, 129, 256]


class FewUnits(Brute):
    """Looks only at sets of up to r s units, closed ones built unit by unit: for large states of small width."""

    def closure(self, unit: int, state: Set) -> Set:
        found, waiting = {unit}, [unit]
        while waiting:
            new = self.successors(waiting.pop(), state) - found
            found |= new
            waiting += new
        return frozenset(found)

    def endings(self, state: Set) -> set[frozenset[Set]]:
        if self.kind == "paper":
            closures = {c for u in state if len(c := self.closure(u, state)) <= self.r}
            choices = (chosen for count in range(1, self.s + 1) for chosen in combinations(closures, count))
            return {frozenset(c) for c in choices if all(not a & b for a, b in combinations(c, 2))}
        after = {u: self.successors(u, state) for u in state}
        closed: set[Set] = {frozenset()}
        for _ in range(self.r * self.s):
            closed |= {c | {u} for c in closed for u in state if after[u] <= c}
        found = {self.components(c) for c in closed if c}
        return {groups for groups in found if len(groups) <= self.s and all(len(g) <= self.r for g in groups)}


def chain(count: int) -> list[int]:
    return [1 << i >> 1 for i in range(count)]


@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("count", BOUNDARY)
def test_chain(count: int, endings: str) -> None:
    space = StateSpace(chain(count), SpaceSettings(3, 8, ("concurrent",), endings))
    assert len(space.states) == count
    assert space.states.shape[1] == -(-count // 64)
    assert len(space.stage_of) == space.stage_count == 3 * count - 3
    assert max(group[-1] for group in space.groups(int(space.stage_of[0]))) == count - 1
    check_groups(space)


@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("lengths", [[40, 40], [65, 3, 2], [20, 2, 100], [6] * 3 + [50]])
@pytest.mark.parametrize("interleaved", [False, True])
def test_chains_side_by_side(lengths: list[int], endings: str, interleaved: bool) -> None:
    """A state is how much each chain has left; an ending takes up to r of each."""
    r, s = 2, 3
    units = [(c, i) for c, length in enumerate(lengths) for i in range(length)]
    if interleaved:
        units.sort(key=lambda unit: unit[1])
    number = {unit: i for i, unit in enumerate(units)}
    before = [1 << number[c, i - 1] if i else 0 for c, i in units]
    space = StateSpace(before, SpaceSettings(r, s, ("concurrent",), endings))
    transitions = 0
    for left in product(*(range(length + 1) for length in lengths)):
        ways = [1] + [0] * s  # by the number of chains taken from
        for rest in left:
            ways = [ways[k] + (ways[k - 1] * min(rest, r) if k else 0) for k in range(s + 1)]
        transitions += sum(ways[1:])
    assert len(space.states) == np.prod([length + 1 for length in lengths]) - 1
    assert len(space.stage_of) == transitions
    check_groups(space)


@pytest.mark.parametrize("endings", ENDINGS)
def test_wide_and_shallow(endings: str) -> None:
    """After a long chain twelve units side by side, and one that reads from all: they lie in two words."""
    before = [*chain(59), *[1 << 58] * 12, ((1 << 12) - 1) << 59]
    space = StateSpace(before, SpaceSettings(1, None, ("concurrent",), endings))
    assert len(space.states) == 59 + (2**12 - 1) + 1
    assert len(space.stage_of) == 59 + (3**12 - 2**12) + 1


def wide_dag(count: int, width: int, seed: int) -> list[int]:
    """A few chains with edges between them, units in an order that mixes them."""
    rng = random.Random(seed)
    last: dict[int, int] = {}
    before = []
    for unit in range(count):
        lane = rng.randrange(width)
        reads = {last[lane]} if lane in last else set()
        if last and rng.random() < 0.5:
            reads.add(rng.choice(list(last.values())))
        last[lane] = unit
        before.append(sum(1 << u for u in reads))
    return before


@settings(max_examples=20, deadline=None)
@given(
    st.integers(63, 130), st.integers(1, 3), st.integers(0, 10**6), st.sampled_from(ENDINGS),
    st.sampled_from([(1, 1), (1, 3), (2, 1), (2, 2), (3, 1)]),
)  # fmt: skip
def test_equals_brute_force(count: int, width: int, seed: int, endings: str, limits: tuple[int, int]) -> None:
    before = wide_dag(count, width, seed)
    try:
        space = StateSpace(before, SpaceSettings(*limits, ("concurrent",), endings), limit=1000)
    except SpaceTooLargeError:
        return
    reached, expected = explore(FewUnits(before, endings, *limits))
    found = transitions_of(space)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert {units_of(state) for state in space.states} == reached
    check_groups(space)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(ENDINGS), st.integers(1, 3), st.integers(1, 2))
def test_the_other_brute_force_is_right(count: int, seed: int, endings: str, r: int, s: int) -> None:
    before = wide_dag(count, 3, seed)
    assert explore(FewUnits(before, endings, r, s)) == explore(Brute(before, endings, r, s))


@pytest.mark.parametrize("strategies", [("merge",), ("concurrent", "merge")])
def test_merges_over_two_words(strategies: tuple[str, ...]) -> None:
    """Five convolutions that can be merged, after a branch of 60: those of any choice that are sinks."""
    part = whole(parallel([60, *[1] * 5]))
    space = part_space(part, SpaceSettings(1, 1, strategies))
    merges = [units_of(merge) for merge in merge_endings(part)]
    after = {u: {v for v in range(len(part.units)) if part.predecessors()[v] >> u & 1} for u in range(len(part.units))}
    found = [t for t in transitions_of(space) if t[1] == "merge"]
    expected = {
        (state, "merge", frozenset(frozenset({u}) for u in merge), state - merge)
        for state in map(units_of, space.states)
        for merge in merges
        if merge <= state and not any(after[u] & state for u in merge)
    }
    assert len(found) == len(expected)
    assert set(found) == expected
    assert {units_of(merge) for merge in space.merges} == set(merges)
    check_groups(space)


def brute_costs(space: StateSpace, cost: Sequence[float]) -> tuple[list[float], list[float]]:
    """Least cost from the full state to each, and from each to the empty one."""
    count = len(space.states)
    there, back = [0.0] + [np.inf] * (count - 1), [np.inf] * count
    for _ in range(space.unit_count):
        for state in range(count):
            for t in range(space.offsets[state], space.offsets[state + 1]):
                target, seconds = int(space.next_of[t]), cost[space.stage_of[t]]
                back[state] = min(back[state], seconds + (back[target] if target >= 0 else 0.0))
                if target >= 0:
                    there[target] = min(there[target], there[state] + seconds)
    return there, back


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.9]))
def test_costs_forward_and_backward(count: int, seed: int, infeasible: float) -> None:
    space = StateSpace(wide_dag(count, 3, seed), SpaceSettings(2, 2, ("concurrent",)))
    rng = np.random.default_rng(seed)
    cost = np.where(rng.random(space.stage_count) < infeasible, np.inf, rng.random(space.stage_count))
    arguments = (space.order, space.offsets, space.stage_of, space.next_of, cost)
    best, choice = backward(*arguments)
    there, back = brute_costs(space, cost)
    assert forward(*arguments) == pytest.approx(there)
    assert best == pytest.approx(back)
    assert [t < 0 for t in choice] == [np.isinf(b) for b in best]
    total, path = space.shortest(cost)
    assert total == best[0]
    assert bool(path) == np.isfinite(total)
    assert sum(cost[path]) == pytest.approx(total if path else 0)


@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("limit", [1000, 10**6])
def test_a_wide_part_is_given_up_early(endings: str, limit: int) -> None:
    """Long before its 2^200 states are found, and before its transitions are enumerated."""
    with pytest.raises(SpaceTooLargeError, match=f"a part of 200 units has more than {limit:,} transitions; lower"):
        StateSpace([0] * 200, SpaceSettings(3, 8, ("concurrent",), endings), limit=limit)
