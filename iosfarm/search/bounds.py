"""What is known, expected and assumed of the latencies of one part's stages."""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.latency_model import Floats, LatencyModel, StageUnits, Work
from iosfarm.search.lazy import raise_to_parts
from iosfarm.search.problem import PartProblem


class Kind(IntEnum):
    """How a stage's latency is predicted."""

    UNIT = 0  # not at all: units are measured first
    GROUP = 1  # one group: the sum of its units, less what they save by running in one stage
    CONCURRENT = 2  # several groups: the regression
    MERGE = 3  # a share of its units' sum


class PartBounds:
    """The stages of a part; arrays are by stage number, in seconds.

    known: latencies, NaN where unknown, infinite where infeasible. least: the longest measured stage that is contained
    in each stage, see `contained`.
    """

    def __init__(self, problem: PartProblem, model: LatencyModel) -> None:
        self.problem = problem
        self._model = model
        space, factory, units = problem.space, problem.factory, problem.part.units
        self.known: Floats = np.full(space.stage_count, np.nan)
        self.least: Floats = np.zeros(space.stage_count)
        self._shares: Floats = np.zeros(len(units))
        self._told: Floats = np.full(space.stage_count, np.nan)
        self._group_units = [space.group_units(g) for g in range(len(space.group_words))]
        self._flat = np.array([u for members in self._group_units for u in members], np.int64)
        self.group_sizes = np.array([len(members) for members in self._group_units], np.int64)
        self._starts = np.cumsum(self.group_sizes) - self.group_sizes
        graph = problem.part.graph
        self._operators = np.array([len(graph.units[u].operators) for u in units], np.float64)
        self._flops = [float(factory.unit_flops[u]) for u in units]
        self._bytes = [float(factory.unit_bytes[u]) for u in units]
        self._types = np.zeros(len(units), np.int64)
        self.group_counts = np.diff(space.stage_groups_offsets)
        self.kinds = np.full(space.stage_count, Kind.CONCURRENT, np.int8)
        self.kinds[self.group_counts == 1] = Kind.GROUP
        self.kinds[problem.singles] = Kind.UNIT
        self.kinds[len(space.endings) :] = Kind.MERGE

    @property
    def unit_seconds(self) -> Floats:
        """Each unit alone."""
        return self.known[self.problem.singles]

    @property
    def _unit_guesses(self) -> Floats:
        """As `unit_seconds`; those that have no latency, and run in company only if at all, get a usual one."""
        seconds = self.unit_seconds
        finite = np.isfinite(seconds)
        return np.where(finite, seconds, np.median(seconds[finite]) if finite.any() else 1.0)

    def tell(self, seconds: Floats) -> None:
        """Latencies by class."""
        self.known = seconds[self.problem.classes]

    def contain(self) -> None:
        """Bring `least` up to date with `known`."""
        told = np.where(np.isfinite(self.known), self.known, np.nan)
        changed = ~np.isnan(self._told) & (told != self._told)
        if changed.any():  # measured again: what rested on the old latency is not known
            self.least[:] = 0
            self._told[:] = np.nan
        fresh = np.flatnonzero(~np.isnan(told) & np.isnan(self._told))
        space = self.problem.space
        units = np.concatenate([space.endings, space.merges]) if len(space.merges) else space.endings
        raise_to_parts(
            units,
            space.stage_groups_offsets,
            space.stage_groups,
            space.group_words,
            len(space.endings),
            # The longest first: the others seldom raise anything.
            fresh[np.argsort(-told[fresh])],
            np.sort(told[fresh])[::-1],
            self.least,
        )
        self._told = told

    def share(self, shares: Floats) -> None:
        """By class: the device time of one unit where many copies of it run at once; NaN where that is unknown."""
        self._shares = np.nan_to_num(shares[self.problem.classes[self.problem.singles]], nan=0.0)

    @property
    def structural(self) -> Floats:
        """What each stage takes at least, but for a margin: as long as the longest measured stage in it, and as long as
        a device that is full needs for all of its units.
        """
        if not self._shares.any():
            return self.least
        space = self.problem.space
        groups = np.add.reduceat(self._shares[self._flat], self._starts)
        work = np.add.reduceat(groups[space.stage_groups], space.stage_groups_offsets[:-1])
        # A merged convolution is another kernel than its units, and may do more at once.
        return np.where(self.kinds == Kind.MERGE, self.least, np.maximum(self.least, work))

    def describe_units(self) -> None:
        """Tell the model of this part's units."""
        factory, singles = self.problem.factory, self.problem.singles
        for i, seconds in enumerate(self._unit_guesses):
            key = factory.key_of(int(self.problem.classes[singles[i]]))
            operators = int(self._operators[i])
            self._types[i] = self._model.type_of(key, float(seconds), self._flops[i], self._bytes[i], operators)

    # -- predictions ---------------------------------------------------------------------------------------------

    def sums(self) -> Floats:
        """For each group its units' latencies alone, added up."""
        return np.add.reduceat(self._unit_guesses[self._flat], self._starts)

    def groups_alone(self, saved: float) -> Floats:
        """Latency of each group alone, predicted where it is unknown. saved: seconds by each unit after the first."""
        sums = self.sums()
        known = self.known[self.problem.alone]
        predicted = np.maximum(sums - saved * (self.group_sizes - 1), 0.5 * sums)
        return np.where(np.isfinite(known), known, predicted)

    @property
    def groups_measured(self) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
        """Groups of several units that were measured: sum of their units, size, latency, stage number."""
        known = self.known[self.problem.alone]
        rows = np.flatnonzero(np.isfinite(known) & (self.group_sizes > 1))
        return self.sums()[rows], self.group_sizes[rows].astype(np.float64), known[rows], self.problem.alone[rows]

    def predict(self, saved: float, merged: float) -> tuple[Floats, Floats]:
        """Of each stage, whatever is known: the latency to expect, and for concurrent ones the prediction's leverage (0
        for others). merged: of a merge stage, relative to its units' sum.
        """
        alone, sums = self.groups_alone(saved), self.sums()
        loads = self._model.loads[self._types]
        seconds = self._unit_guesses
        filled = np.add.reduceat((seconds * loads)[self._flat], self._starts)
        load = alone * filled / np.maximum(sums, 1e-300)
        groups, starts = self.problem.space.stage_groups, self.problem.space.stage_groups_offsets[:-1]
        longest, loaded = np.maximum.reduceat(alone[groups], starts), np.add.reduceat(load[groups], starts)
        operators = np.add.reduceat(self._group_operators[groups], starts)
        result = self._model.predict(longest, loaded, self.group_counts.astype(np.float64), operators)
        scale = np.repeat(alone / np.maximum(sums, 1e-300), self.group_sizes)
        units = StageUnits(
            self.problem.space.stage_groups_offsets,
            groups,
            np.append(self._starts, len(self._flat)),
            self._flat,
            seconds[self._flat] * scale,
        )
        leverages = self._model.leverages(self._types, units, longest, loaded, operators)
        leverages[self.kinds != Kind.CONCURRENT] = 0
        single = self.kinds <= Kind.GROUP
        result[single] = np.add.reduceat(alone[groups], starts)[single]
        merges = self.kinds == Kind.MERGE
        result[merges] = merged * np.add.reduceat(alone[groups], starts)[merges]
        return result, leverages

    def work(self, stages: NDArray[np.int64], saved: float) -> Work:
        """Concurrent stages as the model is fitted to them."""
        alone, sums = self.groups_alone(saved), self.sums()
        seconds = self._unit_guesses
        offsets, groups = self.problem.space.stage_groups_offsets, self.problem.space.stage_groups
        rows, types, shares = [], [], []
        longest, operators = np.empty(len(stages)), np.empty(len(stages))
        for row, stage in enumerate(stages):
            members = groups[offsets[stage] : offsets[stage + 1]]
            longest[row], operators[row] = alone[members].max(), self._group_operators[members].sum()
            for group in members:
                for unit in self._group_units[group]:
                    rows.append(row)
                    types.append(self._types[unit])
                    shares.append(seconds[unit] * alone[group] / max(sums[group], 1e-300))
        return Work(
            longest,
            self.group_counts[stages].astype(np.float64),
            operators,
            np.array(rows, np.int64),
            np.array(types, np.int64),
            np.array(shares, np.float64),
        )

    @cached_property
    def _group_operators(self) -> Floats:
        return np.add.reduceat(self._operators[self._flat], self._starts)

    def merges_measured(self) -> Floats:
        """Of each measured merge stage its latency relative to its units' sum."""
        known = self.known[self.kinds == Kind.MERGE]
        space = self.problem.space
        first = len(space.endings)
        sums = self.sums()
        ratios = []
        for i in np.flatnonzero(np.isfinite(known)):
            at = space.stage_groups_offsets[first + i : first + i + 2]
            ratios.append(known[i] / sums[space.stage_groups[at[0] : at[1]]].sum())
        return np.array(ratios, np.float64)
