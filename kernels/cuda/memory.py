"""Where each value lies in one block of memory: values that can be alive at the same time never overlap.

Two values may share memory if every step that touches one has ended before any step that touches the other begins,
whatever the device does within the order that it was given. So the plan holds for exactly that order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iosfarm.kernels.cuda.dependencies import Dependencies, descendants
from iosfarm.kernels.cuda.gpu import rounded
from iosfarm.kernels.cuda.steps import Program


@dataclass(frozen=True)
class MemoryPlan:
    """offsets: of each value, in bytes, multiples of `gpu.ALIGNMENT`; -1 for a value that no step touches. size: of all
    of them together.
    """

    offsets: tuple[int, ...]
    size: int


def plan_memory(program: Program, dependencies: Dependencies) -> MemoryPlan:
    """Offsets for steps that run in this order. Inputs and outputs keep their memory to themselves.

    The largest value first, each at the lowest place that is free for it (greedy by size, as in Pisarchyk and Lee,
    "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    touching: list[int] = [0] * len(program.values)
    for number, step in enumerate(program.steps):
        for value in step.touched:
            touching[value] |= 1 << number
    after = descendants(dependencies)
    everything = (1 << len(program.steps)) - 1
    follow = [_all_after(after, steps, everything) for steps in touching]  # steps that begin when a value is done with
    kept = {*program.inputs, *program.outputs}
    offsets = [-1] * len(program.values)
    placed: list[int] = []
    order = sorted(range(len(program.values)), key=lambda v: (-program.values[v].size, v))
    for value in order:
        if not touching[value] and value not in kept:
            continue
        taken = []
        for other in placed:
            apart = value not in kept and other not in kept and _apart(value, other, touching, follow)
            if not apart:
                taken.append((offsets[other], offsets[other] + rounded(program.values[other].size)))
        offsets[value] = _lowest(sorted(taken), rounded(program.values[value].size))
        placed.append(value)
    size = max((offsets[v] + rounded(program.values[v].size) for v in placed), default=0)
    return MemoryPlan(tuple(offsets), size)


def _all_after(after: list[int], steps: int, everything: int) -> int:
    result = everything
    number = 0
    while steps:
        if steps & 1:
            result &= after[number]
        steps >>= 1
        number += 1
    return result


def _apart(one: int, other: int, touching: list[int], follow: list[int]) -> bool:
    return not (touching[one] & ~follow[other] and touching[other] & ~follow[one])


def _lowest(taken: Iterable[tuple[int, int]], size: int) -> int:
    place = 0
    for begin, end in taken:
        if begin - place >= size:
            break
        place = max(place, end)
    return place
