"""What endings are made of: groups of units, and convolutions that can be merged, as bit sets in Python's integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

import numpy as np

from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.ir.merge import merge_class
from iosfarm.ir.schedule import mergeable
from iosfarm.search.parts import Part
from iosfarm.search.words import Indices, Words, as_words, room_for_keys, with_room

MAX_GROUPS = 1_000_000
MAX_MERGES = 1_000_000
MAX_MERGED = 8
"""Convolutions that one merge stage may hold; a block with more parallel ones yields 2^n subsets."""


class SpaceTooLargeError(UsageError):
    """A part has more groups, merged endings, states or transitions than may be enumerated."""


class EnumerationStoppedError(IosfarmError):
    """Whoever asked for a space wants it no more."""


def check(stop: Callable[[], bool]) -> None:
    """Between two steps of an enumeration.

    Raises:
        EnumerationStoppedError: it is to stop.
    """
    if stop():
        raise EnumerationStoppedError("the enumeration of stages was stopped")


def too_large(units: int, most: int, what: str) -> SpaceTooLargeError:
    """The error for a part with more than the most of something."""
    hint = "lower --max-group-size, --max-groups or max_part_size"
    return SpaceTooLargeError(f"a part of {units} units has more than {most:,} {what}", hint=hint)


def merge_endings(part: Part) -> list[int]:
    """Bit sets of two or more convolutions that can run as one, up to `MAX_MERGED` at a time.

    Raises:
        SpaceTooLargeError: there are too many.
    """
    classes: dict[object, list[int]] = {}
    for i, unit in enumerate(part.units):
        kind = merge_class(part.graph, unit)
        if kind is not None:
            classes.setdefault(kind, []).append(i)
    sizes = [len(members) for members in classes.values()]
    if sum(comb(n, size) for n in sizes for size in range(2, min(n, MAX_MERGED) + 1)) > MAX_MERGES:
        raise SpaceTooLargeError(
            f"more than {MAX_MERGES:,} ways to merge {max(sizes)} parallel convolutions",
            hint="lower max_part_size, or search concurrent stages only",
        )
    found = []
    for members in classes.values():
        for size in range(2, min(len(members), MAX_MERGED) + 1):
            for chosen in combinations(members, size):
                if mergeable(part.graph, [part.units[i] for i in chosen]):
                    found.append(sum(1 << i for i in chosen))
    return found


def connected_sets(
    predecessors: Sequence[int], successors: Sequence[int], largest: int
) -> tuple[Words, Words, Indices]:
    """Sets of up to `largest` units that hang together and can end a state: no path leaves and comes back.

    Returns the sets, ascending by their highest units; what must not be left when one ends a state; where those of each
    highest unit begin.

    Raises:
        SpaceTooLargeError: there are too many.
    """
    from iosfarm.search.enumeration import widen

    n = len(predecessors)
    width = -(-n // 64)
    touching = as_words([p | s for p, s in zip(predecessors, successors, strict=True)], width)
    below, above = (as_words(closures_of(*edges), width) for edges in ((successors,), (predecessors, True)))
    sets, slots = room_for_keys(as_words([1 << unit for unit in range(n)], width), np.zeros(1, np.int32), n, 0)
    around, down, up, top = touching, below, above, np.arange(n, dtype=np.int32)
    progress = np.array([0, n])  # next to widen; how many there are
    rest = np.empty((1, width), np.uint64)
    for _ in range(largest - 1):
        level_end = int(progress[1])
        while progress[0] < level_end:
            count = int(progress[1])
            sets, slots = room_for_keys(sets, slots, count, n)
            around, down, up = (with_room(array, len(sets)) for array in (around, down, up))
            top = with_room(top, len(sets))
            widen(progress, level_end, sets, slots, touching, below, above, around, down, up, top, rest)
            if progress[1] > MAX_GROUPS:
                raise too_large(n, MAX_GROUPS, "groups")
    count = int(progress[1])
    order = np.argsort(top[:count], kind="stable")
    # With all that follows as with the successors alone: a state that holds the one holds the other.
    after = down[:count] & ~sets[:count]
    highest = np.searchsorted(top[order], np.arange(n + 1)).astype(np.int64)
    return sets[order], after[order], highest


def closures_of(successors: Sequence[int], forward: bool = False) -> list[int]:
    """Each unit with everything that follows it; `forward` where edges lead to smaller numbers."""
    found = [0] * len(successors)
    order = range(len(successors)) if forward else reversed(range(len(successors)))
    for i in order:
        found[i] = 1 << i
        for j in bits(successors[i]):
            found[i] |= found[j]
    return found


def transpose(predecessors: Sequence[int]) -> list[int]:
    """Successors of each unit.

    Raises:
        UsageError: a unit comes before one that it reads from.
    """
    successors = [0] * len(predecessors)
    for i, before in enumerate(predecessors):
        if before >> i:
            raise UsageError("units of a part must be in topological order")
        for j in bits(before):
            successors[j] |= 1 << i
    return successors


def bits(mask: int) -> list[int]:
    """Units of a bit set, ascending."""
    return [i for i in range(mask.bit_length()) if mask >> i & 1]
