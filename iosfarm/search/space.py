"""`StateSpace`: the states, endings and transitions of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.errors import UsageError
from iosfarm.ir.merge import merge_class
from iosfarm.ir.schedule import mergeable
from iosfarm.ir.stage import STRATEGIES
from iosfarm.search.parts import MAX_PART_SIZE, Part

ENDINGS = ("complete", "paper")
MAX_TRANSITIONS = 100_000_000
MAX_CANDIDATES = 1_000_000
MAX_MERGED = 8
"""Convolutions that one merge stage may hold; a block with more parallel ones yields 2^n subsets."""


@dataclass(frozen=True)
class SpaceSettings:
    """What the search space holds. max_group_size is IOS's r, max_groups its s; None is no limit.

    Raises:
        UsageError: a value that cannot be.
    """

    max_group_size: int | None = 3
    max_groups: int | None = 8
    strategies: tuple[str, ...] = STRATEGIES
    endings: str = "complete"

    def __post_init__(self) -> None:
        for name, value in (("max_group_size", self.max_group_size), ("max_groups", self.max_groups)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"{name} is {value!r}", hint="use an integer of at least 1")
        if not self.strategies or any(s not in STRATEGIES for s in self.strategies):
            raise UsageError(f"strategies are {list(self.strategies)}", hint=f"use some of {', '.join(STRATEGIES)}")
        if self.endings not in ENDINGS:
            raise UsageError(f"unknown endings {self.endings!r}", hint=f"use one of {', '.join(ENDINGS)}")


class StateSpace:
    """Bit i of a state or ending stands for the part's unit i.

    endings: bit sets; stage number i < len(endings) is endings[i] run concurrently, the rest are `merges`.
    offsets, stage_of, next_of: transitions of state i are offsets[i] .. offsets[i + 1]; next_of is -1 for the empty
    state. States are in the order of discovery; `order` sorts them by size.

    Raises:
        UsageError: the space is too large to enumerate; the line says which limits to lower.
    """

    def __init__(self, predecessors: Sequence[int], settings: SpaceSettings, merges: Sequence[int] = ()) -> None:
        from iosfarm.search.bitsets import enumerate_space

        n = len(predecessors)
        if not 1 <= n <= MAX_PART_SIZE:
            raise UsageError(f"a part of {n} units", hint=f"parts have 1 to {MAX_PART_SIZE} units")
        self.settings = settings
        self.successors = _transpose(predecessors)
        self._touching = [p | s for p, s in zip(predecessors, self.successors, strict=True)]
        closures = _closures(self.successors)
        largest = min(settings.max_group_size or n, n)
        concurrent = "concurrent" in settings.strategies
        groups: list[int] = []
        if settings.endings == "complete" or not concurrent:
            # Without concurrent stages single units remain, so that a schedule exists.
            groups = connected_sets(predecessors, self.successors, largest if concurrent else 1)
            closures = []
        self.merges = _words(merges if "merge" in settings.strategies else ())
        full = (1 << n) - 1
        self.states, self.offsets, self.stage_of, self.next_of, self.endings, finished = enumerate_space(
            np.uint64(full),
            _words(groups),
            _words([self._after(g) for g in groups]),
            _words(closures),
            largest,
            min(settings.max_groups or n, n) if concurrent else 1,
            self.merges,
            _words([self._after(m) for m in merges] if len(self.merges) else ()),
            MAX_TRANSITIONS,
        )
        if not finished:
            raise UsageError(
                f"a part of {n} units has more than {MAX_TRANSITIONS:,} transitions",
                hint="lower --max-group-size, --max-groups or max_part_size",
            )

    def _after(self, units: int) -> int:
        """Units that read from `units` and are not among them."""
        after = 0
        for i, successors in enumerate(self.successors):
            if units >> i & 1:
                after |= successors
        return after & ~units

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """State numbers, fewest units first."""
        return np.argsort(np.bitwise_count(self.states), kind="stable").astype(np.int64)

    @property
    def stage_count(self) -> int:
        """Distinct stages: endings and merged endings."""
        return len(self.endings) + len(self.merges)

    def stage_units(self, stage: int) -> int:
        """Bit set of a stage's units."""
        count = len(self.endings)
        return int(self.endings[stage]) if stage < count else int(self.merges[stage - count])

    def strategy(self, stage: int) -> str:
        """`concurrent` or `merge`."""
        return "concurrent" if stage < len(self.endings) else "merge"

    def groups(self, stage: int) -> list[list[int]]:
        """Units of each group: connected components, or one unit each for a merge stage."""
        units = self.stage_units(stage)
        if self.strategy(stage) == "merge":
            return [[i] for i in _bits(units)]
        groups = []
        while units:
            first = (units & -units).bit_length() - 1
            members, around = [first], self._touching[first] & units
            units &= ~(1 << first)
            while around:
                low = around & -around
                i = low.bit_length() - 1
                members.append(i)
                units ^= low
                around = (around ^ low) | self._touching[i] & units
            groups.append(sorted(members))
        return groups

    def shortest(self, cost: NDArray[np.float64]) -> tuple[float, list[int]]:
        """Least total cost and the stages of that path in the order they run; (inf, []) where there is none.

        cost: seconds of each stage, infinite for those that cannot be used.
        """
        from iosfarm.search.bitsets import shortest

        best, choice = shortest(self.order, self.offsets, self.stage_of, self.next_of, cost)
        path: list[int] = []
        state = 0
        while state >= 0:
            transition = int(choice[state])
            if transition < 0:
                return float("inf"), []
            path.append(int(self.stage_of[transition]))
            state = int(self.next_of[transition])
        return float(best[0]), path[::-1]

    def schedule_count(self) -> float:
        """Number of schedules, as a float."""
        from iosfarm.search.bitsets import count_paths

        return float(count_paths(self.order, self.offsets, self.next_of)[0])


def part_space(part: Part, settings: SpaceSettings) -> StateSpace:
    """The state space of a part, merge stages included."""
    merges = merge_endings(part) if "merge" in settings.strategies else []
    return StateSpace(part.predecessors(), settings, merges)


def merge_endings(part: Part) -> list[int]:
    """Bit sets of two or more convolutions that can run as one, up to `MAX_MERGED` at a time.

    Raises:
        UsageError: there are too many.
    """
    classes: dict[object, list[int]] = {}
    for i, unit in enumerate(part.units):
        kind = merge_class(part.graph, unit)
        if kind is not None:
            classes.setdefault(kind, []).append(i)
    sizes = [len(members) for members in classes.values()]
    if sum(comb(n, size) for n in sizes for size in range(2, min(n, MAX_MERGED) + 1)) > MAX_CANDIDATES:
        raise UsageError(
            f"more than {MAX_CANDIDATES:,} ways to merge {max(sizes)} parallel convolutions",
            hint="lower max_part_size, or search concurrent stages only",
        )
    found = []
    for members in classes.values():
        for size in range(2, min(len(members), MAX_MERGED) + 1):
            for chosen in combinations(members, size):
                if mergeable(part.graph, [part.units[i] for i in chosen]):
                    found.append(sum(1 << i for i in chosen))
    return found


def connected_sets(predecessors: Sequence[int], successors: Sequence[int], largest: int) -> list[int]:
    """Bit sets of up to `largest` units that hang together and can end a state: no path leaves and comes back.

    Raises:
        UsageError: there are too many.
    """
    touching = [p | s for p, s in zip(predecessors, successors, strict=True)]
    level = {1 << i: touching[i] for i in range(len(touching))}
    found = list(level)
    for _ in range(largest - 1):
        wider: dict[int, int] = {}
        for units, around in level.items():
            for i in _bits(around):
                bigger = units | 1 << i
                if bigger not in wider:
                    wider[bigger] = (around | touching[i]) & ~bigger
            if len(found) + len(wider) > MAX_CANDIDATES:
                raise UsageError(f"more than {MAX_CANDIDATES:,} possible groups", hint="lower --max-group-size")
        if not wider:
            break
        found += wider
        level = wider
    below = _closures(successors)
    above = _closures(predecessors, forward=True)
    return [units for units in found if _convex(units, below, above)]


def _convex(units: int, below: Sequence[int], above: Sequence[int]) -> bool:
    down = up = 0
    for i in _bits(units):
        down |= below[i]
        up |= above[i]
    return down & up == units


def _closures(successors: Sequence[int], *, forward: bool = False) -> list[int]:
    """Each unit with everything that follows it; `forward` where edges lead to smaller numbers."""
    closures = [0] * len(successors)
    order = range(len(successors)) if forward else reversed(range(len(successors)))
    for i in order:
        closures[i] = 1 << i
        for j in _bits(successors[i]):
            closures[i] |= closures[j]
    return closures


def _transpose(predecessors: Sequence[int]) -> list[int]:
    successors = [0] * len(predecessors)
    for i, before in enumerate(predecessors):
        if before >> i:
            raise UsageError("units of a part must be in topological order")
        for j in _bits(before):
            successors[j] |= 1 << i
    return successors


def _bits(mask: int) -> list[int]:
    return [i for i in range(mask.bit_length()) if mask >> i & 1]


def _words(masks: Sequence[int]) -> NDArray[np.uint64]:
    return np.array(list(masks), dtype=np.uint64)
