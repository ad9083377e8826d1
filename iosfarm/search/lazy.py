# mypy: allow-untyped-defs, disable-error-code="assignment"
"""Lazy shortest paths, compiled: which stages to measure, where many latencies are only bounded from below.

After LazySP (Dellin and Srinivasa, ICAPS 2016): evaluate what lies on the path that is shortest under the bounds, and
repeat. Here a whole batch is chosen at once: a stage that was picked is taken to cost what it is predicted to.

State spaces are given as in `paths.py`; a pruned one has its states in order, fewest units first, the full one last.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from iosfarm.search.paths import backward, relax


@njit(cache=True, nogil=True)
def prune(order, offsets, stage_of, next_of, cost, before, after, below):
    """The transitions that lie on a path of less than `below`; returns offsets, stage_of, next_of of what is left.

    before, after: least cost from the full state to each state, and from each state to the empty one, under `cost`.
    """
    numbers = np.full(len(order), -1, np.int32)
    kept_offsets = np.zeros(len(order) + 1, np.int64)
    size = 1024
    kept_stages = np.empty(size, np.int32)
    kept_next = np.empty(size, np.int32)
    states = 0
    count = 0
    for position in range(len(order)):
        state = order[position]
        if not before[state] + after[state] < below:
            continue
        for t in range(offsets[state], offsets[state + 1]):
            total = before[state] + cost[stage_of[t]]
            if next_of[t] >= 0:
                total += after[next_of[t]]
            if total < below:
                if count == size:
                    size *= 2
                    longer = np.empty(size, np.int32)
                    longer[:count] = kept_stages
                    kept_stages = longer
                    longer = np.empty(size, np.int32)
                    longer[:count] = kept_next
                    kept_next = longer
                kept_stages[count] = stage_of[t]
                kept_next[count] = numbers[next_of[t]] if next_of[t] >= 0 else -1
                count += 1
        numbers[state] = states
        states += 1
        kept_offsets[states] = count
    return kept_offsets[: states + 1].copy(), kept_stages[:count].copy(), kept_next[:count].copy()


@njit(cache=True, nogil=True)
def cheapest(offsets, stage_of, next_of, cost):
    """Least cost of a path through a pruned space; infinite where nothing was left of it."""
    best, _ = backward(np.arange(len(offsets) - 1), offsets, stage_of, next_of, cost)
    return best[-1] if len(best) else np.inf


@njit(cache=True, nogil=True)
def pick(offsets, stage_of, next_of, bound, predicted, classes, open_, enough, most):
    """Classes to measure so that, if the predictions hold, every path of a pruned space costs at least `enough`.

    bound, predicted: of each stage. classes: of each stage. open_: of each class, whether it may be picked; those
    picked are closed. Of the shortest path's stages the one whose bound would rise most is picked, `most` at most.
    """
    cost = bound.copy()
    states = len(offsets) - 1
    order = np.arange(states)
    best = np.empty(states, np.float64)
    choice = np.empty(states, np.int64)
    picked = np.empty(most, np.int64)
    count = 0
    while states and count < most:
        relax(order, offsets, stage_of, next_of, cost, best, choice)
        if not best[-1] < enough:
            break
        widest = -1.0
        chosen = np.int64(-1)
        state = np.int64(states - 1)
        while state >= 0:
            t = choice[state]
            stage = stage_of[t]
            if open_[classes[stage]] and predicted[stage] - cost[stage] > widest:
                widest = predicted[stage] - cost[stage]
                chosen = classes[stage]
            state = np.int64(next_of[t])
        if chosen < 0:
            break
        open_[chosen] = False
        picked[count] = chosen
        count += 1
        for stage in range(len(cost)):
            if classes[stage] == chosen and predicted[stage] > cost[stage]:
                cost[stage] = predicted[stage]
    return picked[:count]


@njit(cache=True, nogil=True)
def raise_to_parts(units, groups_at, groups, group_words, mergers_from, measured, seconds, least):
    """For each measured stage: raises `least` of every stage that contains it to its seconds.

    One stage contains another of the same strategy if each group of the other lies in a group of the one, no two in
    the same; a stage of one group is contained in merged ones too. units: bit sets of the stages (N, W). measured:
    stage numbers.
    """
    width = units.shape[1]
    for m in range(len(measured)):
        inner = measured[m]
        parts = groups_at[inner + 1] - groups_at[inner]
        for outer in range(len(units)):
            if least[outer] >= seconds[m] or outer == inner:
                continue
            if parts > 1 and (outer >= mergers_from) != (inner >= mergers_from):
                continue
            inside = True
            for w in range(width):
                if units[inner, w] & ~units[outer, w]:
                    inside = False
                    break
            if not inside:
                continue
            if parts > 1:
                touched = 0
                for g in range(groups_at[outer], groups_at[outer + 1]):
                    for w in range(width):
                        if group_words[groups[g], w] & units[inner, w]:
                            touched += 1
                            break
                if touched < parts:
                    continue
            least[outer] = seconds[m]
