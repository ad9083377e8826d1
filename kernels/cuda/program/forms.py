"""The forms in which a schedule can run: with a barrier between stages, or with its true dependencies alone.

Without barriers a schedule is still the order in which work is launched, and which of two kernels that could both run
gets the device first depends on it; so there are several orders to try.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from iosfarm.kernels.cuda.program.dependencies import Dependencies, reordered, true_only, with_barriers
from iosfarm.kernels.cuda.program.steps import Program, Step

Arranged = tuple[Program, Dependencies]


def in_order(program: Program, order: Sequence[int]) -> Arranged:
    """No barriers; launched in this order of the program's steps."""
    steps = tuple(program.steps[number] for number in order)
    return replace(program, steps=steps), true_only(steps)


def stages(program: Program) -> Arranged:
    """As it was searched and measured: stage after stage."""
    return program, with_barriers(program.steps)


def free(program: Program) -> Arranged:
    """No barriers; launched stage by stage, the longest group of each first."""
    return program, true_only(program.steps)


def free_shortest(program: Program) -> Arranged:
    """No barriers; the shortest group of each stage first, so that what waits for it can begin."""
    places = {(step.stage, step.group) for step in program.steps}
    # Groups stand longest first, see `Stage`.
    steps = reordered(program.steps, {place: -place[1] for place in places})
    return replace(program, steps=steps), true_only(steps)


def free_critical(program: Program) -> Arranged:
    """No barriers; of the steps that may run, the one first that has the most bytes to move behind it on its longest
    way to the end (list scheduling by critical path, Graham 1969).
    """
    steps = _by_critical_path(program)
    return replace(program, steps=steps), true_only(steps)


TUNED = "free-tuned"
"""No barriers, in the order that a search on the device found (see `tuning`)."""


FORMS: Mapping[str, Callable[[Program], Arranged]] = {
    "stages": stages,
    "free": free,
    "free-shortest": free_shortest,
    "free-critical": free_critical,
}

FREE = tuple(name for name in FORMS if name != "stages")
"""Without barriers, by a rule: where a search begins."""


def _by_critical_path(program: Program) -> tuple[Step, ...]:
    steps = program.steps
    needed = true_only(steps)
    readers: list[list[int]] = [[] for _ in steps]
    for number, before in enumerate(needed):
        for one in before:
            readers[one].append(number)
    path = [0] * len(steps)
    for number in range(len(steps) - 1, -1, -1):
        path[number] = _bytes(program, steps[number]) + max((path[r] for r in readers[number]), default=0)
    missing = [len(before) for before in needed]
    ready = [(-path[n], n) for n, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    result: list[Step] = []
    while ready:
        _, number = heapq.heappop(ready)
        result.append(steps[number])
        _release(readers[number], missing, path, ready)
    return tuple(result)


def _release(readers: Sequence[int], missing: list[int], path: Sequence[int], ready: list[tuple[int, int]]) -> None:
    for reader in readers:
        missing[reader] -= 1
        if not missing[reader]:
            heapq.heappush(ready, (-path[reader], reader))


def _bytes(program: Program, step: Step) -> int:
    return sum(program.values[value].size for value in step.touched) + step.call.parameters.size
