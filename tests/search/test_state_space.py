"""`StateSpace` against its definitions, on random graphs."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.search import candidates, states
from iosfarm.search.candidates import connected_sets, merge_endings, transpose
from iosfarm.search.space import SpaceSettings, SpaceTooLargeError, StateSpace, part_space

from search_brute import Brute, Set, can_merge, subsets  # isort: skip - beside this file
from search_graphs import graphs, parallel, predecessors, whole  # isort: skip

limits = st.one_of(st.none(), st.integers(1, 4))


def units_of(words: int | NDArray[np.uint64]) -> Set:
    mask = words if isinstance(words, int) else sum(int(word) << 64 * i for i, word in enumerate(words))
    return frozenset(i for i in range(mask.bit_length()) if mask >> i & 1)


def groups_of(space: StateSpace, stage: int) -> frozenset[Set]:
    return frozenset(frozenset(group) for group in space.groups(stage))


Transition = tuple[Set, str, frozenset[Set], Set]


def transitions_of(space: StateSpace) -> list[Transition]:
    """(state, strategy, groups, next state) of each transition."""
    found = []
    for i, state in enumerate(space.states):
        for t in range(space.offsets[i], space.offsets[i + 1]):
            stage, target = int(space.stage_of[t]), int(space.next_of[t])
            rest = units_of(space.states[target]) if target >= 0 else frozenset()
            found.append((units_of(state), space.strategy(stage), groups_of(space, stage), rest))
    return found


def explore(brute: Brute) -> tuple[set[Set], set[Transition]]:
    """Reachable states and transitions, concurrent stages alone."""
    reached, found = {brute.full}, set()
    waiting = [brute.full]
    while waiting:
        state = waiting.pop()
        for groups in brute.endings(state):
            rest = state - frozenset().union(*groups)
            found.add((state, "concurrent", groups, rest))
            if rest and rest not in reached:
                reached.add(rest)
                waiting.append(rest)
    return reached, found


def check_groups(space: StateSpace) -> None:
    """The numbers of each stage's groups are ascending and say the same as its units."""
    highest = [max(space.group_units(group)) for group in range(len(space.group_words))]
    assert highest == sorted(highest)
    for group, words in enumerate(space.group_words):
        assert frozenset(space.group_units(group)) == units_of(words)
    assert len({space.group_units(group) for group in range(len(highest))}) == len(highest)
    assert len(space.stage_groups_offsets) == space.stage_count + 1
    assert set(space.stage_groups) == set(range(len(highest)))
    for stage in range(space.stage_count):
        numbers = list(space.stage_groups[space.stage_groups_offsets[stage] : space.stage_groups_offsets[stage + 1]])
        assert numbers == sorted(set(numbers))
        groups = [space.group_units(number) for number in numbers]
        assert {frozenset(group) for group in groups} == groups_of(space, stage)
        assert sum(len(group) for group in groups) == space.stage_units(stage).bit_count()
        assert frozenset().union(*groups) == units_of(space.stage_units(stage))
        assert space.groups(stage) == sorted(list(group) for group in groups)
        if space.strategy(stage) == "merge":
            assert all(len(group) == 1 for group in groups)


@settings(max_examples=250, deadline=None)
@given(predecessors(), st.sampled_from(["complete", "paper"]), limits, limits)
def test_equals_brute_force(before: list[int], endings: str, r: int | None, s: int | None) -> None:
    space = StateSpace(before, SpaceSettings(r, s, ("concurrent",), endings))
    brute = Brute(before, endings, r, s)
    reached, expected = explore(brute)

    @cache
    def schedules(state: Set) -> int:
        return sum(schedules(rest) for source, _, _, rest in expected if source == state) if state else 1

    found = transitions_of(space)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert {units_of(state) for state in space.states} == reached
    assert len(space.states) == len(reached)
    assert units_of(space.states[0]) == brute.full
    assert sorted(space.order) == list(range(len(reached)))
    sizes = [len(units_of(space.states[i])) for i in space.order]
    assert sizes == sorted(sizes)
    assert space.stage_count == len({groups for _, _, groups, _ in expected})
    assert space.schedule_count() == schedules(brute.full)
    check_groups(space)


@settings(max_examples=250, deadline=None)
@given(graphs(), st.sampled_from(["complete", "paper"]), st.sampled_from([("merge",), ("concurrent", "merge")]))
def test_merge_stages_equal_brute_force(graph: Graph, endings: str, strategies: tuple[str, ...]) -> None:
    part = whole(graph)
    before = part.predecessors()
    brute = Brute(before, endings, 2, 3)
    space = part_space(part, SpaceSettings(2, 3, strategies, endings))
    expected = {
        (units_of(state), strategy, groups, units_of(state) - frozenset().union(*groups))
        for state in space.states
        for strategy, groups in brute.stages(units_of(state), strategies, lambda units: can_merge(graph, units))
    }
    found = transitions_of(space)
    assert len(found) == len(expected)
    assert set(found) == expected
    check_groups(space)
    # Whatever can be merged somewhere can be merged in a state that is reachable.
    anywhere = {units for units in subsets(brute.full) if len(units) > 1 and can_merge(graph, units)}
    assert {units_of(m) for m in merge_endings(part)} == anywhere


def test_many_groups() -> None:
    """No limit on groups, as many groups as units."""
    space = StateSpace([0] * 10, SpaceSettings(None, None, ("concurrent",)))
    assert len(space.states) == 2**10 - 1
    assert len(space.stage_of) == 3**10 - 2**10
    assert space.stage_count == 2**10 - 1
    assert space.schedule_count() == 102247563  # ordered set partitions, OEIS A000670


def test_too_many_transitions() -> None:
    """Eight units side by side have 3^8 - 2^8."""
    unlimited = SpaceSettings(None, None, ("concurrent",))
    StateSpace([0] * 8, unlimited, limit=3**8 - 2**8)
    with pytest.raises(SpaceTooLargeError, match=r"a part of 8 units has more than 6,304 transitions; lower"):
        StateSpace([0] * 8, unlimited, limit=3**8 - 2**8 - 1)


@pytest.mark.parametrize("endings", ["complete", "paper"])
def test_too_many_states(monkeypatch: pytest.MonkeyPatch, endings: str) -> None:
    alone = SpaceSettings(1, 1, ("concurrent",), endings)
    monkeypatch.setattr(states, "MAX_STATES", 2**10 - 1)
    StateSpace([0] * 10, alone)
    monkeypatch.setattr(states, "MAX_STATES", 2**10 - 2)
    with pytest.raises(SpaceTooLargeError, match=r"more than 1,022 states; lower"):
        StateSpace([0] * 10, alone)


def test_merged_endings_are_counted() -> None:
    part = whole(parallel([1] * 4))
    merged = SpaceSettings(1, 1, ("merge",))
    count = len(part_space(part, merged).stage_of)
    part_space(part, merged, limit=count)
    for limit in range(count):
        with pytest.raises(SpaceTooLargeError, match=f"more than {limit} transitions"):
            part_space(part, merged, limit=limit)


@pytest.mark.parametrize("endings", ["complete", "paper"])
def test_too_many_groups(monkeypatch: pytest.MonkeyPatch, endings: str) -> None:
    """A chain of four has nine of up to three units."""
    settings = SpaceSettings(3, None, ("concurrent",), endings)
    module = candidates if endings == "complete" else states
    monkeypatch.setattr(module, "MAX_GROUPS", 9)
    StateSpace([0, 1, 2, 4], settings)
    monkeypatch.setattr(module, "MAX_GROUPS", 8)
    with pytest.raises(SpaceTooLargeError, match=r"a part of 4 units has more than 8 groups; lower"):
        StateSpace([0, 1, 2, 4], settings)


def test_too_many_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    part = whole(parallel([1] * 5))
    monkeypatch.setattr(candidates, "MAX_MERGES", 26)
    assert len(merge_endings(part)) == 26  # 2^5 - 5 - 1
    monkeypatch.setattr(candidates, "MAX_MERGES", 25)
    with pytest.raises(SpaceTooLargeError, match="merge 5 parallel convolutions"):
        merge_endings(part)


def test_candidates_are_refused_before_they_fill_the_memory() -> None:
    """A level of connected sets can be many times as large as the one before it."""
    between_all = [0] * 32 + [(1 << 32) - 1] * 32
    with pytest.raises(UsageError, match="--max-group-size"):
        connected_sets(between_all, transpose(between_all), 64)


def test_only_sets_that_can_end_a_state_are_candidates() -> None:
    """In an order of all units those are runs; there are 2^64 connected sets."""
    dense = [(1 << i) - 1 for i in range(64)]
    assert len(connected_sets(dense, transpose(dense), 64)[0]) == 64 * 65 / 2


def test_groups_may_not_be_left_and_entered_again() -> None:
    """0 and 2 hang together, but not without 1, which lies between them."""
    sets, _, _ = connected_sets([0, 0b1, 0b11], [0b110, 0b100, 0], 3)
    assert 0b101 not in sets


@pytest.mark.parametrize("before", [[], [0] * 257, [1], [2, 0]])
def test_what_is_no_part(before: list[int]) -> None:
    with pytest.raises(UsageError):
        StateSpace(before, SpaceSettings())


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_group_size": 0},
        {"max_group_size": True},
        {"max_group_size": 1.5},
        {"max_groups": 0},
        {"max_groups": -1},
        {"max_groups": False},
        {"max_groups": "8"},
        {"strategies": ()},
        {"strategies": ("parallel",)},
        {"strategies": ("merge", "")},
        {"endings": "all"},
    ],
)
def test_settings_that_cannot_be(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments)) if "endings" not in arguments else "unknown endings"):
        SpaceSettings(**arguments)  # type: ignore[arg-type]
