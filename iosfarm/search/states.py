"""The reachable states of a part, and the groups and merged endings that each allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.candidates import MAX_GROUPS, bits, check, closures_of, connected_sets, too_large
from iosfarm.search.enumeration import merge_rows, reach
from iosfarm.search.words import Indices, Numbers, Words, as_words, room_for_keys, with_room

MAX_STATES = 4_000_000


class Rows(NamedTuple):
    """What each state allows: entries of state i are offsets[i] .. offsets[i + 1], ascending by number."""

    offsets: Indices
    numbers: Numbers
    next_of: Numbers


class Reached(NamedTuple):
    """States and their groups' rows; groups, and what must not be left when one ends a state; merged endings' rows."""

    states: Words
    rows: Rows
    groups: Words
    after: Words
    merged: Rows


def reachable(
    predecessors: Sequence[int],
    successors: Sequence[int],
    *,
    largest: int,
    max_groups: int,
    closures: bool,
    merges: Sequence[int],
    limit: int,
    stop: Callable[[], bool] = lambda: False,
) -> Reached:
    """The states of a part, given as bit sets of each unit's neighbours.

    largest: units of a group. max_groups: groups of an ending. closures: groups are successor closures. merges: bit
    sets of merged endings, ascending by their highest units. limit: most transitions. stop: see `StateSpace`.

    Raises:
        SpaceTooLargeError: there are too many states or transitions, as far as can be seen from the states.
    """
    n = len(predecessors)
    width = -(-n // 64)
    groups = after = np.empty((0, width), np.uint64)
    highest = np.zeros(n + 1, np.int64)
    if not closures:
        groups, after, highest = connected_sets(predecessors, successors, largest)
    after_unit = as_words(successors, width)
    within = as_words(closures_of(successors) if closures else [], width)
    # Any choice of sinks is an ending: what the states found so far have at least.
    least = np.array([sum(comb(sinks, k) for k in range(1, max_groups + 1)) for sinks in range(n + 1)], float)
    transitions = 0.0
    states, slots = as_words([(1 << n) - 1], width), np.zeros(2, np.int32)
    rows = Rows(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
    group_slots = np.full(2, -1, np.int32)
    progress = np.array([0, 1, 0, 0])  # next state; how many states, entries, groups
    rest = np.empty((1, width), np.uint64)
    while progress[0] < progress[1]:
        check(stop)
        _, count, entries, met = (int(number) for number in progress)
        most = n if closures else len(groups)
        states, slots = room_for_keys(states, slots, count, most)
        rows = Rows(
            with_room(rows.offsets, count + 1),
            with_room(rows.numbers, entries + most),
            with_room(rows.next_of, entries + most),
        )
        if closures:
            groups, group_slots = room_for_keys(groups, group_slots, met, most)
            after = with_room(after, len(groups))
        with_sinks = reach(
            progress, states, slots, tuple(rows), after_unit, groups, after, highest, within, group_slots, largest, rest
        )
        transitions = max(transitions + float(with_sinks @ least), float(progress[2]))
        reached = ((progress[1], MAX_STATES, "states"), (progress[3], MAX_GROUPS, "groups"))
        for number, most, what in (*reached, (transitions, limit, "transitions")):
            if number > most:
                raise too_large(n, most, what)
    _, count, entries, met = (int(number) for number in progress)
    states = states[:count].copy()
    rows = Rows(rows.offsets[: count + 1].copy(), rows.numbers[:entries].copy(), rows.next_of[:entries].copy())
    if closures:
        groups, after, rows = _by_highest_unit(groups[:met], after[:met], rows)
    return Reached(states, rows, groups, after, _merged(states, slots, merges, successors, limit))


def _merged(states: Words, slots: Numbers, merges: Sequence[int], successors: Sequence[int], limit: int) -> Rows:
    width = states.shape[1]
    rows = Rows(np.zeros(len(states) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
    sets = _sets(merges, successors, width)
    progress = np.zeros(2, np.int64)  # next state; how many entries
    while merges and progress[0] < len(states):
        room = int(progress[1]) + len(merges)
        rows = Rows(rows.offsets, with_room(rows.numbers, room), with_room(rows.next_of, room))
        merge_rows(progress, states, slots, tuple(rows), *sets, np.empty((1, width), np.uint64))
        if progress[1] > limit:
            raise too_large(len(successors), limit, "transitions")
    return Rows(rows.offsets, rows.numbers[: progress[1]].copy(), rows.next_of[: progress[1]].copy())


def _sets(masks: Sequence[int], successors: Sequence[int], width: int) -> tuple[Words, Words, Indices]:
    """Sets, ascending by their highest units; what must not be left when one ends a state; where unit u's begin."""
    after = []
    for units in masks:
        reading = 0
        for unit in bits(units):
            reading |= successors[unit]
        after.append(reading & ~units)
    highest = np.searchsorted([units.bit_length() for units in masks], np.arange(1, len(successors) + 2))
    return as_words(masks, width), as_words(after, width), highest.astype(np.int64)


def _by_highest_unit(groups: Words, after: Words, rows: Rows) -> tuple[Words, Words, Rows]:
    """Numbers groups by their highest units, which leaves the fewest to be looked at in vain, and sorts the rows."""
    order = np.argsort(_highest_units(groups), kind="stable")
    renumbered = np.empty(len(order), np.int32)
    renumbered[order] = np.arange(len(order), dtype=np.int32)
    numbers = renumbered[rows.numbers]
    state = np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))
    entries = np.lexsort((numbers, state))
    return groups[order], after[order], Rows(rows.offsets, numbers[entries], rows.next_of[entries])


def _highest_units(sets: Words) -> NDArray[np.intp]:
    octets = sets.astype("<u8", copy=False).view(np.uint8)[:, ::-1]
    highest = (octets != 0).argmax(axis=1)
    top_bit = np.array([octet.bit_length() - 1 for octet in range(256)])
    found: NDArray[np.intp] = 8 * (octets.shape[1] - 1 - highest) + top_bit[octets[np.arange(len(sets)), highest]]
    return found
