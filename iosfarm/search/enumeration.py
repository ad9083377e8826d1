# mypy: allow-untyped-defs
"""Enumeration of a part's states, compiled.

A state is a set of units still to be scheduled; it is closed under predecessors. An ending of a state is a set of
pairwise disjoint *groups*, each closed under successors within the state. Any ending can be taken group by group, so
the endings of one group reach every state. They are kept for each state, as its *row*: the groups that it allows, and
the states that they lead to. `ending_tree` makes all endings of these.

A bit set is a row of W = ceil(n / 64) words, the lowest units first; functions take an array of them and an index, for
a view of one row would cost more than the work. Nothing here makes room: where there is none left a function returns,
and its caller makes some and calls again. That is quick to compile, and lets Ctrl-C in.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _find(slots, keys, sets, i):
    """Slot of the set or of the empty place where it belongs. slots holds indices into keys, or -1."""
    # Multiply and mix: nearby bit sets must not share a slot's neighbourhood.
    h = np.uint64(0)
    for w in range(sets.shape[1]):
        h = (h ^ sets[i, w]) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    mask = len(slots) - 1
    slot = np.int64(h >> np.uint64(20)) & mask
    while slots[slot] >= 0:
        w = 0
        while w < sets.shape[1] and keys[slots[slot], w] == sets[i, w]:
            w += 1
        if w == sets.shape[1]:
            break
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def rehash(slots, keys, count):
    """Fills a table of -1, whose size is a power of two, with the first keys."""
    for k in range(count):
        slots[_find(slots, keys, keys, k)] = k


@njit(cache=True, nogil=True)
def _insert(slots, keys, count, sets, i):
    """Index of the set, which is appended at `count` if it is new."""
    slot = _find(slots, keys, sets, i)
    if slots[slot] < 0:
        slots[slot] = count
        for w in range(keys.shape[1]):
            keys[count, w] = sets[i, w]
    return np.int64(slots[slot])


@njit(cache=True, nogil=True)
def _has(sets, i, unit):
    return (sets[i, unit >> 6] >> np.uint64(unit & 63)) & np.uint64(1) != 0


@njit(cache=True, nogil=True)
def _apart(a, i, b, j):
    for w in range(a.shape[1]):  # noqa: SIM110 - a generator would not compile
        if a[i, w] & b[j, w]:
            return False
    return True


@njit(cache=True, nogil=True)
def _ends(units, after, i, states, state):
    """Whether all units are in the state and nothing that must not be left is."""
    for w in range(states.shape[1]):  # noqa: SIM110
        if units[i, w] & ~states[state, w] or after[i, w] & states[state, w]:
            return False
    return True


@njit(cache=True, nogil=True)
def _subtract(states, state, sets, i, rest):
    """Puts what is left of the state into rest[0]; whether there is something."""
    left = np.uint64(0)
    for w in range(states.shape[1]):
        rest[0, w] = states[state, w] & ~sets[i, w]
        left |= rest[0, w]
    return left != 0


@njit(cache=True, nogil=True)
def _popcount(word):
    count = 0
    while word:
        word &= word - np.uint64(1)
        count += 1
    return count


@njit(cache=True, nogil=True)
def _closure(states, state, closures, unit, largest, rest):
    """Puts a unit's successor closure in the state into rest[0]; whether it has at most `largest` units."""
    count = 0
    for w in range(states.shape[1]):
        rest[0, w] = states[state, w] & closures[unit, w]
        count += _popcount(rest[0, w])
    return count <= largest


@njit(cache=True, nogil=True)
def widen(progress, stop, sets, slots, touching, below, above, around, down, up, top, rest):
    """Sets of one unit more than the sets progress[0] .. stop, connected, and such that no path leaves and comes back.

    Any such set comes from a smaller one: in a leaf of its tree of blocks there are a source and a sink, and one of
    them is no cut vertex. Without it the rest still hangs together, and no path has lost what it passes through.

    progress: next set, number of sets; updated; stops early where there is no room for as many as there are units.
    touching, below, above: what has an edge with each unit; itself with all that follows or precedes. around, down, up,
    top: what touches each set; itself with all that follows or precedes; its highest unit.
    """
    units, width = touching.shape
    one, count = progress
    while one < stop and count + units <= min(len(sets), len(slots) // 2):
        for unit in range(units):
            if not _has(around, one, unit):
                continue
            new = 0
            for w in range(width):
                rest[0, w] = (down[one, w] | below[unit, w]) & (up[one, w] | above[unit, w])
                new += _popcount(rest[0, w] & ~sets[one, w])
            if new == 1 and _insert(slots, sets, count, rest, 0) == count:
                for w in range(width):
                    around[count, w] = (around[one, w] | touching[unit, w]) & ~rest[0, w]
                    down[count, w] = down[one, w] | below[unit, w]
                    up[count, w] = up[one, w] | above[unit, w]
                top[count] = max(top[one], unit)
                count += 1
        one += 1
    progress[0], progress[1] = one, count


@njit(cache=True, nogil=True)
def reach(progress, states, slots, rows, successors, groups, after, highest, closures, group_slots, largest, rest):
    """Rows of the states progress[0] .. progress[1], which grows; stops early where there is no room for one more.

    progress: next state, number of states, of entries in the rows, and of groups; updated. slots: hash table of the
    states. rows: offsets, groups and next states (-1: the empty one). successors: of each unit. groups, after:
    candidates, and what must not be left when one ends a state; those whose highest unit is u are highest[u] ..
    highest[u + 1]. Where `closures` (successor closure of each unit) is not empty, groups are the closures within the
    state, of up to `largest` units, and are numbered as they are met. rest: one set, to work in.

    Returns how many sinks the states done have, as a histogram.
    """
    units, width = successors.shape
    offsets, row_group, row_next = rows
    state, state_count, entries, group_count = progress
    by_closures = len(closures) > 0
    most = units if by_closures else len(groups)
    with_sinks = np.zeros(units + 1, np.int64)
    while (
        state < state_count
        and state + 1 < len(offsets)
        and state_count + most <= min(len(states), len(slots) // 2)
        and entries + most <= len(row_group)
        and not (by_closures and group_count + most > min(len(groups), len(group_slots) // 2))
    ):
        sinks = 0
        for unit in range(units):
            if not _has(states, state, unit):
                continue
            sink = _apart(successors, unit, states, state)
            sinks += sink
            first, last = np.int64(0), np.int64(0)
            if by_closures:
                if _closure(states, state, closures, unit, largest, rest):
                    first = _insert(group_slots, groups, group_count, rest, 0)
                    last = first + 1
                if last > group_count:
                    group_count = last
                    for w in range(width):
                        after[first, w] = 0
                        for member in range(units):
                            if _has(groups, first, member):
                                after[first, w] |= successors[member, w] & ~groups[first, w]
            elif sink:  # as the highest unit of a group that ends the state is
                first, last = highest[unit], highest[unit + 1]
            for group in range(first, last):
                if _ends(groups, after, group, states, state):
                    row_group[entries] = group
                    row_next[entries] = -1
                    if _subtract(states, state, groups, group, rest):
                        target = _insert(slots, states, state_count, rest, 0)
                        state_count = max(state_count, target + 1)
                        row_next[entries] = target
                    entries += 1
        with_sinks[sinks] += 1
        state += 1
        offsets[state] = entries
    progress[0], progress[1], progress[2], progress[3] = state, state_count, entries, group_count
    return with_sinks


@njit(cache=True, nogil=True)
def merge_rows(progress, states, slots, rows, merges, after, highest, rest):
    """The same for merged endings, which lead to states that are known. progress: next state, number of entries."""
    offsets, row_merge, row_next = rows
    state, entries = progress
    while state < len(states) and entries + len(merges) <= len(row_merge):
        for unit in range(len(highest) - 1):
            if highest[unit] < highest[unit + 1] and _has(states, state, unit):
                for merge in range(highest[unit], highest[unit + 1]):
                    if _ends(merges, after, merge, states, state):
                        row_merge[entries] = merge
                        row_next[entries] = -1
                        if _subtract(states, state, merges, merge, rest):
                            row_next[entries] = slots[_find(slots, states, rest, 0)]
                        entries += 1
        state += 1
        offsets[state] = entries
    progress[0], progress[1] = state, entries
