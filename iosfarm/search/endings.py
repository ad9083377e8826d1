"""The endings of all states of a part, and the transitions that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from iosfarm.search.candidates import check
from iosfarm.search.ending_tree import expand, place
from iosfarm.search.states import Reached
from iosfarm.search.words import Indices, Numbers, Words, with_room

_LEAST, _MOST = 1 << 14, 1 << 22
"""Places in the first block of pairs, and in the largest."""


class Transitions(NamedTuple):
    """Transitions by state, and of each ending its units, its last group and what it is without that (-1: nothing)."""

    offsets: Indices
    stage_of: Numbers
    next_of: Numbers
    endings: Words
    last_group: Numbers
    parent: Numbers


class _Block(NamedTuple):
    """Pairs of consecutive nodes; in blocks, because one array would have to be copied to grow."""

    first_node: int
    first: int
    states: Numbers
    left: Numbers

    @property
    def pairs(self) -> tuple[int, Numbers, Numbers]:
        return self.first, self.states, self.left


def transitions(
    reached: Reached, max_groups: int, limit: int, stop: Callable[[], bool] = lambda: False
) -> Transitions | None:
    """Every ending of up to `max_groups` groups in every state; None if there are more than `limit` transitions.

    Merged endings come after the others, in every state and in the numbers of the stages.
    """
    _, rows, groups, after, merged = reached
    states = len(reached.states)
    room = 2 * len(groups) + 1024
    begin, group_of, parent_of = np.zeros(room, np.int64), np.empty(room, np.int32), np.empty(room, np.int32)
    words = np.zeros((room, groups.shape[1]), np.uint64)
    # The root is the ending of no groups, which leaves every state as it is.
    begin[1], group_of[0], parent_of[0] = states, -1, -1
    every = np.arange(states, dtype=np.int32)
    blocks = [_Block(0, 0, every, every), _Block(1, states, *_places(_LEAST))]
    limit -= int(merged.offsets[-1])
    if limit < 0:
        return None
    sizes = np.diff(merged.offsets)
    scratch = (
        *(np.zeros(len(groups), dtype) for dtype in (np.int64, np.int64, np.int32)),
        *(np.empty(len(rows.numbers), np.int32) for _ in range(3)),
    )
    nodes = np.array([0, 0, 1], np.int64)  # next to expand, where to stop, how many there are
    source = 0
    for _ in range(max_groups):
        level_end = nodes[2]
        while nodes[0] < level_end:
            check(stop)
            while source + 1 < len(blocks) and blocks[source + 1].first_node <= nodes[0]:
                source += 1
            nodes[1] = min(level_end, blocks[source + 1].first_node) if source + 1 < len(blocks) else level_end
            block = blocks[-1]
            needed = expand(
                nodes, begin, group_of, parent_of, words, tuple(rows), groups, after,
                blocks[source].pairs, block.pairs, sizes, scratch,
            )  # fmt: skip
            made = int(begin[nodes[2]]) - states
            if made + needed > limit:
                return None
            if needed:
                places = _places(max(needed, min(made, _MOST), _LEAST))
                blocks.append(_Block(int(nodes[2]), states + made, *places))
            elif nodes[2] + len(groups) >= len(begin):
                room = len(begin) + 1
                begin, words = with_room(begin, room), with_room(words, room)
                group_of, parent_of = with_room(group_of, room), with_room(parent_of, room)
        if nodes[2] == level_end:
            break
    count = int(nodes[2])
    offsets = np.zeros(states + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    cursor = offsets[:-1].copy()
    stage_of, next_of = _places(int(offsets[-1]))
    stops = [block.first_node for block in blocks[2:]] + [count]
    for block, end in zip(blocks[1:], stops, strict=True):
        place(block.first_node, end, begin, block.pairs, cursor, stage_of, next_of)
    if len(merged.numbers):
        state = np.repeat(every, np.diff(merged.offsets))
        at = (cursor - merged.offsets[:-1])[state] + np.arange(len(state))
        stage_of[at], next_of[at] = merged.numbers + (count - 1), merged.next_of
    return Transitions(
        offsets, stage_of, next_of, words[1:count].copy(), group_of[1:count].copy(), parent_of[1:count] - 1
    )


def groups_of(last_group: Numbers, parent: Numbers, merged: Sequence[Sequence[int]]) -> tuple[Indices, Numbers]:
    """Groups of each ending, ascending, and then those of `merged`: where each one's begin, and the groups.

    last_group, parent: as in `Transitions`.
    """
    depth = np.ones(len(parent), np.int64)
    ancestor = parent
    while (ancestor >= 0).any():
        depth += ancestor >= 0
        ancestor = np.where(ancestor >= 0, parent[ancestor], -1)
    counts = np.concatenate([depth, np.array([len(groups) for groups in merged], np.int64)])
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    groups = np.empty(int(offsets[-1]), np.int32)
    # From the last group to the first, all endings at once.
    place, ending = offsets[1 : len(parent) + 1] - 1, np.arange(len(parent), dtype=np.int32)
    while len(ending):
        groups[place] = last_group[ending]
        more = parent[ending] >= 0
        place, ending = place[more] - 1, parent[ending[more]]
    groups[offsets[len(parent)] :] = [group for members in merged for group in members]
    return offsets, groups


def _places(count: int) -> tuple[Numbers, Numbers]:
    return np.empty(count, np.int32), np.empty(count, np.int32)
