# mypy: allow-untyped-defs
"""The tree of endings, compiled.

A child adds one group with a higher number than its parent's. Disjoint closed sets cannot touch (an edge from one to
the other would pull its head in), so choosing disjoint groups that a state allows yields every ending once, in both
ending modes; they differ only in what a group is.

A node holds the pairs (state, what remains of it) of all states that have this ending. A group that the remaining state
allows gives a pair of a child, if the state itself allows it too. That is a question of the group and the ending alone:
nothing in the ending may read from the group. So no bit set is looked at and nothing is hashed once per transition.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def expand(nodes, begin, group_of, parent_of, words, rows, groups, after, source, target, sizes, scratch):
    """Children of the nodes nodes[0] .. nodes[1]; stops early where there is no room for those of one node.

    nodes: next node to expand, where to stop, number of nodes; updated. begin: position of each node's first pair.
    group_of, parent_of, words: last group, parent and units of each node. rows: offsets, groups and next states that
    `reach` found. groups, after: units of each group, and what must not be left when it ends a state. source: position
    of the first, states and remaining states of the pairs of these nodes; target: the same, to be filled. sizes: pairs
    of each state; updated. scratch: a zero and two places for each group, three for each entry of a row.

    Returns how many pairs need a place where it stopped for want of places, otherwise 0.
    """
    offsets, row_group, row_next = rows
    source_first, source_state, source_left = source
    target_first, target_state, target_left = target
    counts, places, met, pair_group, pair_state, pair_left = scratch
    count = nodes[2]
    # Every group may become a child.
    while nodes[0] < nodes[1] and count + len(groups) < len(begin):
        node = nodes[0]
        last = group_of[node]
        pairs = np.int64(0)
        kinds = np.int64(0)
        for i in range(begin[node] - source_first, begin[node + 1] - source_first):
            left = source_left[i]
            if left < 0:
                continue
            first = offsets[left]
            entry = offsets[left + 1] - 1
            while entry >= first and row_group[entry] > last:
                group = row_group[entry]
                if counts[group] == 0:
                    met[kinds] = group
                    kinds += 1
                counts[group] += 1
                pair_group[pairs] = group
                pair_state[pairs] = source_state[i]
                pair_left[pairs] = row_next[entry]
                pairs += 1
                entry -= 1
        start = begin[count] - target_first
        place = start
        child = count
        for k in range(kinds):
            group = met[k]
            places[group] = -1
            read = np.uint64(0)
            for w in range(words.shape[1]):
                read |= after[group, w] & words[node, w]
            if not read:
                places[group] = place
                place += counts[group]
                group_of[child] = group
                parent_of[child] = node
                for w in range(words.shape[1]):
                    words[child, w] = words[node, w] | groups[group, w]
                child += 1
                begin[child] = target_first + place
            counts[group] = 0
        if place > len(target_state):
            return place - start
        for i in range(pairs):
            place = places[pair_group[i]]
            if place >= 0:
                target_state[place] = pair_state[i]
                target_left[place] = pair_left[i]
                sizes[pair_state[i]] += 1
                places[pair_group[i]] = place + 1
        nodes[0] = node + 1
        nodes[2] = count = child
    return np.int64(0)


@njit(cache=True, nogil=True)
def place(first, stop, begin, source, cursor, stage_of, next_of):
    """Writes the pairs of the nodes first .. stop as transitions; stages are numbered from the root's first child.

    cursor: where the next transition of each state goes; updated.
    """
    source_first, source_state, source_left = source
    for node in range(first, stop):
        for i in range(begin[node] - source_first, begin[node + 1] - source_first):
            state = source_state[i]
            stage_of[cursor[state]] = node - 1
            next_of[cursor[state]] = source_left[i]
            cursor[state] += 1
