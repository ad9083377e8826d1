"""Where each value lies in one block of memory: values that can be alive at the same time never overlap.

Two values may share memory if every step that touches one has ended before any step that touches the other begins,
whatever the device does within the order that it was given. So a plan holds for exactly that order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryPlan:
    """offsets: of each value, in bytes, multiples of the alignment; -1 for a value that no step touches. size: of all
    of them together.
    """

    offsets: tuple[int, ...]
    size: int


def plan_values(
    sizes: Sequence[int], touching: Sequence[int], after: Sequence[int], alignment: int, kept: Collection[int] = ()
) -> MemoryPlan:
    """Offsets of values of so many bytes. touching: of each value, the set of steps that read or write it (bit i is
    step i). after: of each step, the set of steps that begin only when it has ended. kept: values that keep their
    memory to themselves, touched or not.

    The largest value first, each at the lowest place that is free for it (greedy by size, as in Pisarchyk and Lee,
    "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    everything = (1 << len(after)) - 1
    follow = [_all_after(after, steps, everything) for steps in touching]  # steps that begin when a value is done with
    rounded = [max(1, -(-size // alignment)) * alignment for size in sizes]
    offsets = [-1] * len(sizes)
    placed: list[int] = []
    for value in sorted(range(len(sizes)), key=lambda v: (-sizes[v], v)):
        if not touching[value] and value not in kept:
            continue
        taken = []
        for other in placed:
            apart = value not in kept and other not in kept and _apart(value, other, touching, follow)
            if not apart:
                taken.append((offsets[other], offsets[other] + rounded[other]))
        offsets[value] = _lowest(sorted(taken), rounded[value])
        placed.append(value)
    return MemoryPlan(tuple(offsets), max((offsets[v] + rounded[v] for v in placed), default=0))


def _all_after(after: Sequence[int], steps: int, everything: int) -> int:
    result = everything
    while steps:
        lowest = steps & -steps
        result &= after[lowest.bit_length() - 1]
        steps ^= lowest
    return result


def _apart(one: int, other: int, touching: Sequence[int], follow: Sequence[int]) -> bool:
    return not (touching[one] & ~follow[other] and touching[other] & ~follow[one])


def _lowest(taken: Iterable[tuple[int, int]], size: int) -> int:
    place = 0
    for begin, end in taken:
        if begin - place >= size:
            break
        place = max(place, end)
    return place
