"""`StateSpace` against its definitions, on random graphs."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.search import space as space_module
from iosfarm.search.space import SpaceSettings, StateSpace, connected_sets, merge_endings, part_space

from search_brute import Brute, Set, can_merge, subsets  # isort: skip - beside this file
from search_graphs import graphs, parallel, predecessors, whole  # isort: skip

limits = st.one_of(st.none(), st.integers(1, 4))


def units_of(word: int) -> Set:
    return frozenset(i for i in range(64) if word >> i & 1)


def groups_of(space: StateSpace, stage: int) -> frozenset[Set]:
    return frozenset(frozenset(group) for group in space.groups(stage))


Transition = tuple[Set, str, frozenset[Set], Set]


def transitions_of(space: StateSpace) -> list[Transition]:
    """(state, strategy, groups, next state) of each transition."""
    found = []
    for i, state in enumerate(space.states):
        for t in range(space.offsets[i], space.offsets[i + 1]):
            stage, target = int(space.stage_of[t]), int(space.next_of[t])
            rest = units_of(int(space.states[target])) if target >= 0 else frozenset()
            found.append((units_of(int(state)), space.strategy(stage), groups_of(space, stage), rest))
    return found


@settings(max_examples=250, deadline=None)
@given(predecessors(), st.sampled_from(["complete", "paper"]), limits, limits)
def test_equals_brute_force(before: list[int], endings: str, r: int | None, s: int | None) -> None:
    space = StateSpace(before, SpaceSettings(r, s, ("concurrent",), endings))
    brute = Brute(before, endings, r, s)
    states, expected = {brute.full}, set()
    waiting = [brute.full]
    while waiting:
        state = waiting.pop()
        for groups in brute.endings(state):
            rest = state - frozenset().union(*groups)
            expected.add((state, "concurrent", groups, rest))
            if rest and rest not in states:
                states.add(rest)
                waiting.append(rest)

    @cache
    def schedules(state: Set) -> int:
        return sum(schedules(rest) for source, _, _, rest in expected if source == state) if state else 1

    found = transitions_of(space)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert {units_of(int(state)) for state in space.states} == states
    assert len(space.states) == len(states)
    assert space.stage_count == len({groups for _, _, groups, _ in expected})
    assert space.schedule_count() == schedules(brute.full)
    for stage in range(space.stage_count):
        assert all(group == sorted(group) for group in space.groups(stage))  # a topological order


@settings(max_examples=250, deadline=None)
@given(graphs(), st.sampled_from(["complete", "paper"]), st.sampled_from([("merge",), ("concurrent", "merge")]))
def test_merge_stages_equal_brute_force(graph: Graph, endings: str, strategies: tuple[str, ...]) -> None:
    part = whole(graph)
    before = part.predecessors()
    brute = Brute(before, endings, 2, 3)
    space = part_space(part, SpaceSettings(2, 3, strategies, endings))
    expected = {
        (units_of(int(state)), strategy, groups, units_of(int(state)) - frozenset().union(*groups))
        for state in space.states
        for strategy, groups in brute.stages(units_of(int(state)), strategies, lambda units: can_merge(graph, units))
    }
    found = transitions_of(space)
    assert len(found) == len(expected)
    assert set(found) == expected
    # Whatever can be merged somewhere can be merged in a state that is reachable.
    anywhere = {units for units in subsets(brute.full) if len(units) > 1 and can_merge(graph, units)}
    assert {units_of(m) for m in merge_endings(part)} == anywhere


def test_full_word() -> None:
    """Bit 63 is a unit like any other."""
    chain = [0] + [1 << i for i in range(63)]
    for endings in ("complete", "paper"):
        space = StateSpace(chain, SpaceSettings(3, 8, ("concurrent",), endings))
        assert len(space.states) == 64
        assert len(space.stage_of) == 3 * 64 - 3
        assert space.groups(int(space.stage_of[0]))[0][-1] == 63


def test_many_groups() -> None:
    """No limit on groups, as many groups as units."""
    space = StateSpace([0] * 10, SpaceSettings(None, None, ("concurrent",)))
    assert len(space.states) == 2**10 - 1
    assert len(space.stage_of) == 3**10 - 2**10
    assert space.stage_count == 2**10 - 1
    assert space.schedule_count() == 102247563  # ordered set partitions, OEIS A000670


@pytest.mark.parametrize(("name", "limit"), [("MAX_TRANSITIONS", 3**8 - 2**8), ("MAX_CANDIDATES", 9)])
def test_too_large_to_enumerate(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    settings = SpaceSettings(None, None, ("concurrent",))
    # Eight units side by side have as many transitions; a chain of four has nine groups of up to three units.
    before = [0] * 8 if name == "MAX_TRANSITIONS" else [0, 1, 2, 4]
    if name == "MAX_CANDIDATES":
        settings = SpaceSettings(3, None, ("concurrent",))
    monkeypatch.setattr(space_module, name, limit)
    StateSpace(before, settings)
    monkeypatch.setattr(space_module, name, limit - 1)
    with pytest.raises(UsageError, match=r"more than .*lower"):
        StateSpace(before, settings)


def test_too_many_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    part = whole(parallel([1] * 5))
    monkeypatch.setattr(space_module, "MAX_CANDIDATES", 26)
    assert len(merge_endings(part)) == 26  # 2^5 - 5 - 1
    monkeypatch.setattr(space_module, "MAX_CANDIDATES", 25)
    with pytest.raises(UsageError, match="merge 5 parallel convolutions"):
        merge_endings(part)


def test_candidates_are_refused_before_they_fill_the_memory() -> None:
    """A level of connected sets can be many times as large as the one before it."""
    dense = [(1 << i) - 1 for i in range(64)]
    with pytest.raises(UsageError, match="--max-group-size"):
        connected_sets(dense, space_module._transpose(dense), 64)


def test_groups_may_not_be_left_and_entered_again() -> None:
    """0 and 2 hang together, but not without 1, which lies between them."""
    assert 0b101 not in connected_sets([0, 0b1, 0b11], [0b110, 0b100, 0], 3)


@pytest.mark.parametrize("before", [[], [0] * 65, [1], [2, 0]])
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
