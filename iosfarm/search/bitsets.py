# mypy: allow-untyped-defs, disable-error-code="assignment"
"""Enumeration of a part's state space, compiled. States and endings are bit sets in one 64-bit word.

A state is a set of units still to be scheduled; it is closed under predecessors. An ending of a state is a set of
pairwise disjoint *groups*, each closed under successors within the state. Disjoint closed sets cannot touch (an edge
from one to the other would pull its head in), so listing the groups that a state allows and choosing disjoint ones
yields every ending once, in both ending modes; they differ only in what a group is.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]

_EMPTY = np.int64(-1)


@njit(cache=True)
def _hash(key, mask):
    # Fibonacci hashing with a final mix: nearby bit sets must not share a slot's neighbourhood.
    h = key * np.uint64(0x9E3779B97F4A7C15)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    return np.int64((h >> np.uint64(20)) & np.uint64(mask))


@njit(cache=True)
def _find(slots, keys, key):
    """Slot of `key` or of the empty place where it belongs. slots holds indices into keys."""
    mask = len(slots) - 1
    i = _hash(key, mask)
    while slots[i] != _EMPTY and keys[slots[i]] != key:
        i = (i + 1) & mask
    return i


@njit(cache=True)
def _rehash(keys, count, size):
    slots = np.full(size, _EMPTY, np.int64)
    for k in range(count):
        slots[_find(slots, keys, keys[k])] = k
    return slots


@njit(cache=True)
def _grow(array):
    bigger = np.empty(2 * len(array), array.dtype)
    bigger[: len(array)] = array
    return bigger


@njit(cache=True)
def _popcount(word):
    count = 0
    while word:
        word &= word - np.uint64(1)
        count += 1
    return count


@njit(cache=True)
def enumerate_space(full, groups, after, closures, max_group_size, max_groups, merges, merges_after, limit):
    """All states, endings and transitions that are reachable from the full state.

    groups, after: bit sets of the candidate groups and of what must not be left when one ends a state; ignored where
    `closures` (successor closure of each unit) is not empty: then a group is a closure within the state. merges,
    merges_after: the same for merged endings. limit: most transitions; beyond it the result is cut off.

    Returns states, offsets (transitions of state i are offsets[i] to offsets[i + 1]), stage and next state of each
    transition (-1 for the empty state), endings, merged endings (each once), complete. Stage numbers count the endings
    first, then the merged endings.
    """
    states = np.empty(1024, np.uint64)
    states[0] = full
    state_count = np.int64(1)
    state_slots = _rehash(states, 1, 4096)
    endings = np.empty(1024, np.uint64)
    ending_count = np.int64(0)
    ending_slots = np.full(4096, _EMPTY, np.int64)
    offsets = np.zeros(1025, np.int64)
    stage_of = np.empty(4096, np.int64)
    next_of = np.empty(4096, np.int64)
    transitions = np.int64(0)
    allowed = np.empty(max(len(groups), len(closures), 1), np.uint64)
    # A stack of choices: which allowed group comes next, and the union of those chosen so far.
    depth_next = np.empty(66, np.int64)
    depth_union = np.empty(66, np.uint64)
    state = 0
    while state < state_count:
        current = states[state]
        count = 0
        if len(closures):
            for u in range(len(closures)):
                if current >> np.uint64(u) & np.uint64(1):
                    closure = closures[u] & current
                    if _popcount(closure) <= max_group_size:
                        allowed[count] = closure
                        count += 1
        else:
            for g in range(len(groups)):
                if groups[g] & ~current == 0 and after[g] & current == 0:
                    allowed[count] = groups[g]
                    count += 1
        depth = 0
        depth_next[0] = 0
        depth_union[0] = np.uint64(0)
        merge = 0
        while True:
            if depth >= 0:
                choice = depth_next[depth]
                if choice == count:
                    depth -= 1
                    continue
                depth_next[depth] = choice + 1
                if allowed[choice] & depth_union[depth]:
                    continue
                ending = depth_union[depth] | allowed[choice]
                if depth + 1 < max_groups:
                    depth += 1
                    depth_next[depth] = choice + 1
                    depth_union[depth] = ending
                slot = _find(ending_slots, endings, ending)
                if ending_slots[slot] == _EMPTY:
                    if ending_count == len(endings):
                        endings = _grow(endings)
                    endings[ending_count] = ending
                    ending_slots[slot] = ending_count
                    ending_count += 1
                    stage = ending_count - 1
                    if 2 * ending_count > len(ending_slots):
                        ending_slots = _rehash(endings, ending_count, 4 * len(ending_slots))
                else:
                    stage = ending_slots[slot]
            else:
                while merge < len(merges) and (merges[merge] & ~current or merges_after[merge] & current):
                    merge += 1
                if merge == len(merges):
                    break
                ending = merges[merge]
                stage = -1 - merge
                merge += 1
            rest = current & ~ending
            target = np.int64(-1)
            if rest:
                slot = _find(state_slots, states, rest)
                if state_slots[slot] == _EMPTY:
                    if state_count == len(states):
                        states = _grow(states)
                        bigger = np.zeros(2 * (len(offsets) - 1) + 1, np.int64)
                        bigger[: len(offsets)] = offsets
                        offsets = bigger
                    states[state_count] = rest
                    state_slots[slot] = state_count
                    target = state_count
                    state_count += 1
                    if 2 * state_count > len(state_slots):
                        state_slots = _rehash(states, state_count, 4 * len(state_slots))
                else:
                    target = state_slots[slot]
            if transitions == len(stage_of):
                stage_of = _grow(stage_of)
                next_of = _grow(next_of)
            stage_of[transitions] = stage
            next_of[transitions] = target
            transitions += 1
            if transitions > limit:
                return states[:0], offsets[:1], stage_of[:0], next_of[:0], endings[:0], False
        state += 1
        offsets[state] = transitions
    for t in range(transitions):
        if stage_of[t] < 0:
            stage_of[t] = ending_count - 1 - stage_of[t]
    return (
        states[:state_count].copy(),
        offsets[: state_count + 1].copy(),
        stage_of[:transitions].copy(),
        next_of[:transitions].copy(),
        endings[:ending_count].copy(),
        True,
    )


@njit(cache=True)
def shortest(order, offsets, stage_of, next_of, cost):
    """Least cost from every state to the empty one, and the transition to take (-1 where all are infinite).

    order: states with fewer units first, so that what a transition leads to is known. cost: of each stage.
    """
    best = np.empty(len(order), np.float64)
    choice = np.empty(len(order), np.int64)
    for position in range(len(order)):
        state = order[position]
        least = np.inf
        taken = np.int64(-1)
        for t in range(offsets[state], offsets[state + 1]):
            total = cost[stage_of[t]]
            if next_of[t] >= 0:
                total += best[next_of[t]]
            if total < least:
                least = total
                taken = t
        best[state] = least
        choice[state] = taken
    return best, choice


@njit(cache=True)
def count_paths(order, offsets, next_of):
    """Number of schedules of each state, as floats: they outgrow integers."""
    paths = np.zeros(len(order), np.float64)
    for position in range(len(order)):
        state = order[position]
        total = 0.0
        for t in range(offsets[state], offsets[state + 1]):
            total += paths[next_of[t]] if next_of[t] >= 0 else 1.0
        paths[state] = total
    return paths
