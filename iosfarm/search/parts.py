"""Cutting a graph into parts: the pieces that one dynamic program solves each.

A part ends where a single tensor crosses to the rest of the network. Runs of single units between such points
form one part. A block with more units than `max_part_size` is cut after the joins where the fewest tensors cross: in
NasNet, whose cells read the two cells before, that is after every cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph

MAX_PART_SIZE = 64
"""Units a part has at most unless a setting says otherwise."""
LARGEST_PART = 256
"""The largest such setting."""

FEW_TENSORS = 4
"""Tensors that cross a border between cells at most: the two before it, and what they still have to add up."""


@dataclass(frozen=True)
class Part:
    """Units of a graph, by index, in topological order."""

    graph: Graph
    index: int
    units: tuple[int, ...]

    def predecessors(self) -> list[int]:
        """For each unit of the part a bit set of the part's units that it reads from."""
        local = {unit: i for i, unit in enumerate(self.units)}
        before = self.graph.unit_predecessors
        return [sum(1 << local[p] for p in before[unit] if p in local) for unit in self.units]


def cut(graph: Graph, *, max_part_size: int = MAX_PART_SIZE) -> list[Part]:
    """The parts of a graph, in the order in which they run.

    Raises:
        UsageError: max_part_size is not in 1..256.
    """
    if not 1 <= max_part_size <= LARGEST_PART:
        raise UsageError(f"max_part_size is {max_part_size}", hint=f"use 1 to {LARGEST_PART}")
    order = _Order(graph)
    blocks: list[list[int]] = []
    run: list[int] = []
    for block in order.blocks():
        exit_of_last = len(block) == 1 and not run and bool(blocks) and _gathers(graph, block[0])
        if exit_of_last and len(blocks[-1]) < max_part_size:
            # The exit of a block whose branches end in one, as some random graphs have it: still a part of the block.
            blocks[-1] += block
            continue
        if len(block) == 1:
            run += block
            continue
        blocks += _even(run, max_part_size)
        run = []
        blocks += order.divide(block, max_part_size)
    blocks += _even(run, max_part_size)
    return [Part(graph, i, tuple(block)) for i, block in enumerate(blocks)]


def _gathers(graph: Graph, unit: int) -> bool:
    """Whether a unit does nothing but add or join what it reads."""
    return all(graph.operator(name).kind in ("add", "concat") for name in graph.units[unit].operators)


def _even(run: Sequence[int], most: int) -> list[list[int]]:
    """A run of single units in as few pieces as needed, of nearly equal size."""
    count = -(-len(run) // most)
    edges = [round(i * len(run) / count) for i in range(count + 1)] if count else []
    return [list(run[a:b]) for a, b in pairwise(edges)]


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Order:
    """Ancestors and descendants of units as bit sets, and which tensors cross from a set of units to the rest."""

    def __init__(self, graph: Graph) -> None:
        self.count = len(graph.units)
        before = graph.unit_predecessors
        self.ancestors = [0] * self.count
        self.descendants = [0] * self.count
        for unit in range(self.count):
            for p in before[unit]:
                self.ancestors[unit] |= self.ancestors[p] | 1 << p
        for unit in reversed(range(self.count)):
            for p in before[unit]:
                self.descendants[p] |= self.descendants[unit] | 1 << unit
        self.levels = [0] * self.count
        for unit in range(self.count):
            self.levels[unit] = max((self.levels[p] + 1 for p in before[unit]), default=0)
        self.joins = [len(read) > 1 for read in graph.unit_inputs]
        readers: dict[str, int] = {}
        for unit, read in enumerate(graph.unit_inputs):
            for name in read:
                readers[name] = readers.get(name, 0) | 1 << unit
        # (unit that makes the tensor, or -1 for an input of the graph; bit set of the units that read it)
        self.tensors = [(graph.unit_of.get(name, -1), mask) for name, mask in readers.items()]
        self.all = (1 << self.count) - 1

    def ideal(self, unit: int) -> int:
        """Everything that can have run once `unit` has: its ancestors, and side branches that end in an output."""
        ideal = self.ancestors[unit] | 1 << unit
        below = self.descendants[unit] | 1 << unit
        for other in range(self.count):
            side = not ideal >> other & 1 and not below >> other & 1
            if side and not self.ancestors[other] & ~ideal and not self.descendants[other] & below:
                ideal |= 1 << other
        return ideal

    def crossing(self, ideal: int, within: int) -> int:
        """How many tensors made in `ideal` or before are still read by units of `within` outside of it."""
        rest = within & ~ideal
        return sum(1 for maker, readers in self.tensors if readers & rest and not (maker >= 0 and rest >> maker & 1))

    def blocks(self) -> list[list[int]]:
        """Units between consecutive single-tensor points.

        A side branch belongs to the block in which it would end if every unit ran as early as it can: of two heads
        of equal length neither is the other's side branch, and both are in one block.
        """
        ideals = []
        for unit in range(self.count):
            ideal = self.ideal(unit)
            if any(self.levels[other] > self.levels[unit] for other in _bits(ideal & ~self.ancestors[unit])):
                continue
            rest = self.all & ~ideal
            makers = [
                maker for maker, readers in self.tensors if readers & rest and not (maker >= 0 and rest >> maker & 1)
            ]
            if makers == [unit] or not rest:
                ideals.append(ideal)
        ideals.sort(key=int.bit_count)
        blocks = []
        done = 0
        for ideal in [*ideals, self.all]:
            if ideal & ~done:
                blocks.append(list(_bits(ideal & ~done)))
                done |= ideal
        return blocks

    def divide(self, block: list[int], most: int) -> list[list[int]]:
        """A block in pieces of at most `most` units: at all the joins that the fewest tensors cross; where many cross
        everywhere, in as few pieces as needed.
        """
        if len(block) <= most:
            return [block]
        within = sum(1 << unit for unit in block)
        least, quarter = max(2, most // 8), len(block) // 4
        ideals = [(self.ideal(unit) & within, unit) for unit in block]
        joins = [ideal for ideal, unit in ideals if self.joins[unit] and ideal != within]
        costs = {ideal: self.crossing(ideal, within) for ideal in joins}
        balanced = [cost for ideal, cost in costs.items() if quarter <= ideal.bit_count() <= len(block) - quarter]
        cuts: list[int] = []
        if balanced and min(balanced) <= FEW_TENSORS:
            done = 0
            for ideal in sorted(joins, key=int.bit_count):
                large_enough = min((ideal & ~done).bit_count(), (within & ~ideal).bit_count()) >= least
                if costs[ideal] <= min(balanced) and not done & ~ideal and large_enough:
                    cuts.append(ideal)
                    done = ideal
        if not cuts:
            cuts = [self._best_prefix(block, within, most)]
        pieces = []
        done = 0
        for ideal in [*cuts, within]:
            pieces += self.divide(list(_bits(ideal & ~done)), most)
            done = ideal
        return pieces

    def _best_prefix(self, block: Sequence[int], within: int, most: int) -> int:
        """Of the prefixes of the topological order that leave as few pieces as needed: the one with the fewest
        crossings, the most even one of several.
        """
        pieces = -(-len(block) // most)
        even = len(block) / pieces
        best: tuple[int, float, int] | None = None
        ideal = 0
        for position, unit in enumerate(block[:-1], 1):
            ideal |= 1 << unit
            # Half a piece at least: a small one would share stages with nothing.
            if max(len(block) - (pieces - 1) * most, even / 2) <= position <= most:
                rank = self.crossing(ideal, within), abs(position - even), ideal
                best = rank if best is None else min(best, rank)
        assert best is not None
        return best[2]
