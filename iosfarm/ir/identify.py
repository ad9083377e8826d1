"""Classes of equal stages, found for many stages at once.

Stages of one class have the same key; of two classes, different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.stage_groups import MOST_NUMBERINGS, Group, GroupWriter
from iosfarm.ir.stage_units import STRATEGIES


@dataclass(frozen=True, eq=False)
class Identities:
    """What `StageFactory.identify` found.

    classes: class of each stage. group_codes: of each group the number that `StageFactory.group_code` gives.
    """

    classes: NDArray[np.int32]
    group_codes: NDArray[np.int32]

    @cached_property
    def distinct(self) -> NDArray[np.int32]:
        """Classes that occur, ascending."""
        return self._unique[0]

    @cached_property
    def representatives(self) -> NDArray[np.int64]:
        """For each of `distinct` the first stage of that class."""
        return self._unique[1]

    @cached_property
    def _unique(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        distinct, first = np.unique(self.classes, return_index=True)
        return distinct, first.astype(np.int64)


class StageClasses:
    """The classes of one graph's stages that have come up so far, numbered from 0."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer
        self._tensors: dict[str, int] = {}
        self._known: dict[tuple[int, ...], int] = {}
        self._codes: list[int] = []
        self._readings: list[int] = []
        self._readings_at = [0]
        self._reading: dict[tuple[str, ...], int] = {}
        self._inputs: list[int] = []
        self._inputs_at = [0]
        self.count = 0
        self._slots: NDArray[np.int32] = np.empty(0, np.int32)
        self._hashes: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._rows_at: NDArray[np.int64] = np.zeros(1, np.int64)
        self._rows: NDArray[np.int32] = np.empty(0, np.int32)

    def read(self, number: int) -> tuple[list[Group], list[tuple[int, ...]], list[str], str]:
        """The groups of a class, in order; the numbers of the inputs that each reads; their shapes; the strategy."""
        row = tuple(self._rows[self._rows_at[number] : self._rows_at[number + 1]].tolist())
        groups: list[Group] = []
        listed: list[tuple[int, ...]] = []
        shapes: list[str] = []
        at = 1
        while at < len(row):
            group = self._writer.alike[row[at]]
            numbers = row[at + 1 : at + 1 + len(group.shapes)]
            at += 1 + len(numbers)
            groups.append(group)
            listed.append(numbers)
            if max(numbers) >= len(shapes):
                for n, shape in zip(numbers, group.shapes, strict=True):
                    if n == len(shapes):
                        shapes.append(shape)
        return groups, listed, shapes, STRATEGIES[row[0]]

    def identify(
        self,
        groups: Sequence[Sequence[int]],
        offsets: NDArray[np.int64],
        members: NDArray[np.int32],
        concurrent_count: int,
    ) -> Identities:
        """See `StageFactory.identify`."""
        from iosfarm.ir import numbering

        known = np.array([self._group(tuple(sorted(group))) for group in groups], np.int32)
        code = np.array(self._codes, np.int32)
        stages = len(offsets) - 1
        members = known[members]
        inputs_of = self._input_counts()[members]
        # Room for as many classes as there are stages; what is not needed is given back.
        rows = _longer(self._rows, self._rows_at[self.count], stages + len(members) + int(inputs_of.sum()))
        rows_at = _longer(self._rows_at, self.count + 1, stages)
        hashes = _longer(self._hashes, self.count, stages)
        # Ours again once all is done: should this call be interrupted, the next one fills a new table.
        slots, self._slots = self._slots, self._slots[:0]
        if 2 * (self.count + stages) > len(slots):
            slots = np.full(2 ** (2 * (self.count + stages)).bit_length(), -1, np.int32)
            numbering.fill(slots, hashes, self.count)
        largest = int(np.diff(offsets).max(initial=1))
        readings_at = np.array(self._readings_at, np.int64)
        most_inputs = largest * int(inputs_of.max(initial=1))
        most_readings = largest * int(np.diff(readings_at).max(initial=1))
        classes = np.empty(stages, np.int32)
        count = numbering.identify(
            np.ascontiguousarray(offsets, np.int64),
            members,
            concurrent_count,
            code,
            self._ranks()[code],
            readings_at,
            np.array(self._readings, np.int32),
            np.array(self._inputs_at, np.int64),
            np.array(self._inputs, np.int32),
            slots,
            hashes,
            rows_at,
            rows,
            self.count,
            np.empty(largest, np.int32),
            np.empty((2, MOST_NUMBERINGS, most_inputs), np.int32),
            np.empty((2, MOST_NUMBERINGS, largest), np.bool_),
            np.empty(most_readings, np.int32),
            classes,
        )
        self._rows, self._rows_at, self._hashes = rows[: rows_at[count]].copy(), rows_at[: count + 1], hashes[:count]
        self.count = int(count)
        self._slots = slots
        return Identities(classes, code[known])

    def _input_counts(self) -> NDArray[np.int64]:
        """Inputs of each known group."""
        counts = np.array([len(group.shapes) for group in self._writer.alike], np.int64)
        return counts[np.array(self._codes, np.int32)]

    def _ranks(self) -> NDArray[np.int32]:
        """Place of each code among all, in the order of a stage's groups."""
        alike = self._writer.alike
        ranks = np.empty(len(alike), np.int32)
        ranks[sorted(range(len(alike)), key=lambda number: alike[number].rank)] = np.arange(len(alike))
        return ranks

    def _group(self, units: tuple[int, ...]) -> int:
        known = self._known.get(units)
        if known is None:
            group = self._writer.group(units)
            known = self._known[units] = len(self._known)
            self._codes.append(group.number)
            self._readings += [self._read(reading.inputs) for reading in group.readings]
            self._readings_at.append(len(self._readings))
        return known

    def _read(self, inputs: tuple[str, ...]) -> int:
        known = self._reading.get(inputs)
        if known is None:
            known = self._reading[inputs] = len(self._reading)
            self._inputs += [self._tensors.setdefault(name, len(self._tensors)) for name in inputs]
            self._inputs_at.append(len(self._inputs))
        return known


def _longer(array: NDArray[Any], used: int, more: int) -> NDArray[Any]:
    longer = np.empty(used + more, array.dtype)
    longer[:used] = array[:used]
    return longer
