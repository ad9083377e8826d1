# mypy: allow-untyped-defs, disable-error-code="assignment"
"""Shortest paths through a state space, compiled.

Transitions of state i are offsets[i] .. offsets[i + 1]; stage_of and next_of are what each takes and where it leads, -1
being the empty state. order: states with fewer units first. cost: of each stage, infinite for one that cannot be used.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def relax(order, offsets, stage_of, next_of, cost, best, choice):
    """As `backward`, into arrays that are there: one search after another need not make them anew."""
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


@njit(cache=True, nogil=True)
def backward(order, offsets, stage_of, next_of, cost):
    """Least cost from every state to the empty one, and the transition to take (-1 where all are infinite)."""
    best = np.empty(len(order), np.float64)
    choice = np.empty(len(order), np.int64)
    relax(order, offsets, stage_of, next_of, cost, best, choice)
    return best, choice


@njit(cache=True, nogil=True)
def forward(order, offsets, stage_of, next_of, cost):
    """Least cost from the full state to every state; infinite for one that cannot be reached."""
    best = np.full(len(order), np.inf)
    best[0] = 0.0
    for position in range(len(order) - 1, -1, -1):
        state = order[position]
        sofar = best[state]
        if sofar == np.inf:
            continue
        for t in range(offsets[state], offsets[state + 1]):
            if next_of[t] >= 0:
                total = sofar + cost[stage_of[t]]
                if total < best[next_of[t]]:
                    best[next_of[t]] = total
    return best


@njit(cache=True, nogil=True)
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
