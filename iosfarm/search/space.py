"""`StateSpace`: the states, endings and transitions of a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.errors import UsageError
from iosfarm.ir.stage_units import STRATEGIES
from iosfarm.search.candidates import SpaceTooLargeError as SpaceTooLargeError
from iosfarm.search.candidates import bits, merge_endings, too_large, transpose
from iosfarm.search.parts import LARGEST_PART, Part
from iosfarm.search.words import as_mask, as_words

ENDINGS = ("complete", "paper")
MAX_TRANSITIONS = 100_000_000
"""Of a part. They take 16 bytes each while they are enumerated, and 8 afterwards; stages come on top."""


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
    """Bit i of a state or ending stands for the part's unit i; a bit set is a row of W = ceil(n / 64) words.

    unit_count: n. states (S, W): the full one first, then as they were found; `order` sorts them by size.
    offsets, stage_of, next_of: transitions of state i are offsets[i] .. offsets[i + 1]; next_of is -1 for the empty
    state. endings (N, W), merges (M, W): stage i < N is endings[i] run concurrently, stage N + i is merges[i].
    group_words (G, W): the groups that occur, ascending by their highest unit.

    stop: asked about once a second while they are enumerated.

    Raises:
        SpaceTooLargeError: there are more states, or more than `limit` transitions; the line says what to lower.
        EnumerationStoppedError: `stop` said so.
    """

    def __init__(
        self,
        predecessors: Sequence[int],
        settings: SpaceSettings,
        merges: Sequence[int] = (),
        *,
        limit: int = MAX_TRANSITIONS,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        from iosfarm.search.endings import transitions
        from iosfarm.search.states import reachable

        n = len(predecessors)
        if not 1 <= n <= LARGEST_PART:
            raise UsageError(f"a part of {n} units", hint=f"parts have 1 to {LARGEST_PART} units")
        self.unit_count = n
        self.settings = settings
        self.successors = transpose(predecessors)
        concurrent = "concurrent" in settings.strategies
        # Without concurrent stages single units remain, so that a schedule exists.
        max_groups = min(settings.max_groups or n, n) if concurrent else 1
        merges = sorted(merges, key=int.bit_length) if "merge" in settings.strategies else []
        reached = reachable(
            predecessors,
            self.successors,
            largest=min(settings.max_group_size or n, n) if concurrent else 1,
            max_groups=max_groups,
            closures=settings.endings == "paper" and concurrent,
            merges=merges,
            limit=limit,
            stop=stop,
        )
        found = transitions(reached, max_groups, limit, stop)
        if found is None:
            raise too_large(n, limit, "transitions")
        self.states, self.group_words = reached.states, reached.groups
        self.merges = as_words(merges, self.states.shape[1])
        self.offsets, self.stage_of, self.next_of, self.endings, self._last_group, self._parent = found

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """State numbers, fewest units first."""
        sizes = np.bitwise_count(self.states).sum(axis=1, dtype=np.uint16)
        return np.argsort(sizes, kind="stable")

    @property
    def stage_count(self) -> int:
        """Distinct stages: endings and merged endings."""
        return len(self.endings) + len(self.merges)

    def stage_units(self, stage: int) -> int:
        """Bit set of a stage's units."""
        count = len(self.endings)
        return as_mask(self.endings[stage] if stage < count else self.merges[stage - count])

    def strategy(self, stage: int) -> str:
        """`concurrent` or `merge`."""
        return "concurrent" if stage < len(self.endings) else "merge"

    @cached_property
    def stage_groups_offsets(self) -> NDArray[np.int64]:
        """(stage_count + 1,): where each stage's groups begin in `stage_groups`."""
        return self._stage_groups[0]

    @cached_property
    def stage_groups(self) -> NDArray[np.int32]:
        """Numbers of each stage's groups, ascending; a merge stage has one unit a group."""
        return self._stage_groups[1]

    @cached_property
    def _stage_groups(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        from iosfarm.search.endings import groups_of

        single = {units[0]: number for number, units in enumerate(self._group_units) if len(units) == 1}
        merged = [[single[unit] for unit in bits(as_mask(merge))] for merge in self.merges]
        return groups_of(self._last_group, self._parent, merged)

    @cached_property
    def _group_units(self) -> list[tuple[int, ...]]:
        return [tuple(bits(as_mask(words))) for words in self.group_words]

    def group_units(self, group: int) -> tuple[int, ...]:
        """Units of a group, ascending."""
        return self._group_units[group]

    def groups(self, stage: int) -> list[list[int]]:
        """Units of each group, ascending by its first unit: connected components, or single units of a merge stage."""
        numbers = self.stage_groups[self.stage_groups_offsets[stage] : self.stage_groups_offsets[stage + 1]]
        return sorted(list(self._group_units[number]) for number in numbers)

    def shortest(self, cost: NDArray[np.float64]) -> tuple[float, list[int]]:
        """Least total cost and the stages of that path in the order they run; (inf, []) where there is none.

        cost: seconds of each stage, infinite for those that cannot be used.
        """
        from iosfarm.search.paths import backward

        best, choice = backward(self.order, self.offsets, self.stage_of, self.next_of, cost)
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
        from iosfarm.search.paths import count_paths

        return float(count_paths(self.order, self.offsets, self.next_of)[0])


def part_space(
    part: Part,
    settings: SpaceSettings,
    *,
    limit: int = MAX_TRANSITIONS,
    stop: Callable[[], bool] = lambda: False,
) -> StateSpace:
    """The state space of a part, merge stages included. limit, stop: see `StateSpace`."""
    merges = merge_endings(part) if "merge" in settings.strategies else []
    return StateSpace(part.predecessors(), settings, merges, limit=limit, stop=stop)
