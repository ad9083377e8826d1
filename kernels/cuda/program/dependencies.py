"""Which step has to wait for which: with a barrier between stages, or with the true dependencies alone.

A set of steps is an integer with a bit for each: bit i is step i. Steps stand in the order in which they are launched,
and depend on earlier ones only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iosfarm.kernels.cuda.program.steps import Step

Dependencies = tuple[tuple[int, ...], ...]
"""For each step the steps that it waits for directly, ascending."""


def with_barriers(steps: Sequence[Step]) -> Dependencies:
    """Groups of a stage side by side, each in order; a stage begins when all groups of the stage before have ended.

    Steps have to stand stage after stage; those of different groups may be interleaved.
    """
    result: list[tuple[int, ...]] = []
    before: tuple[int, ...] = ()  # the last step of each group of the stage before
    last: dict[int, int] = {}  # of this stage: group -> its last step
    stage = steps[0].stage if steps else 0
    for number, step in enumerate(steps):
        if step.stage != stage:
            before, last, stage = tuple(sorted(last.values())), {}, step.stage
        result.append((last[step.group],) if step.group in last else before)
        last[step.group] = number
    return tuple(result)


def true_only(steps: Sequence[Step]) -> Dependencies:
    """A step waits for the steps that write what it reads, and for nothing else."""
    writers: dict[int, list[int]] = {}
    direct: list[set[int]] = []
    for number, step in enumerate(steps):
        direct.append({writer for value in step.reads for writer in writers.get(value, ())})
        for value in step.writes:
            # A value that several steps write is theirs together: none waits for another.
            writers.setdefault(value, []).append(number)
    return reduced(direct)


def reduced(direct: Sequence[set[int] | tuple[int, ...]]) -> Dependencies:
    """The fewest direct dependencies that lead to the same order (the transitive reduction)."""
    before: list[int] = []
    result = []
    for needed in direct:
        kept: list[int] = []
        seen = 0
        for step in sorted(needed, reverse=True):  # a later one may imply an earlier one, never the other way round
            if not seen >> step & 1:
                kept.append(step)
                seen |= before[step] | 1 << step
        before.append(seen)
        result.append(tuple(kept[::-1]))
    return tuple(result)


def ancestors(dependencies: Dependencies) -> list[int]:
    """For each step the set of steps that have ended when it begins."""
    result: list[int] = []
    for needed in dependencies:
        seen = 0
        for step in needed:
            seen |= result[step] | 1 << step
        result.append(seen)
    return result


def descendants(dependencies: Dependencies) -> list[int]:
    """For each step the set of steps that begin only when it has ended."""
    result = [0] * len(dependencies)
    for step in range(len(dependencies) - 1, -1, -1):
        for needed in dependencies[step]:
            result[needed] |= result[step] | 1 << step
    return result


def ends(dependencies: Dependencies) -> tuple[int, ...]:
    """The steps that no other waits for."""
    awaited = {needed for each in dependencies for needed in each}
    return tuple(step for step in range(len(dependencies)) if step not in awaited)


def reordered(steps: Sequence[Step], rank: Mapping[tuple[int, int], float]) -> tuple[Step, ...]:
    """The same steps with the groups of each stage launched in the order of `rank` ((stage, group) -> least first).

    A group's steps stay in order, and stages stay in order: a legal launch order for either kind of dependencies.
    """
    return tuple(sorted(steps, key=lambda step: (step.stage, rank.get((step.stage, step.group), step.group))))
