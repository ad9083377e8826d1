"""`NetworkBounds`: what is known of the stages of a network's parts, and between what bounds the best schedule lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.bounds import Kind, PartBounds
from iosfarm.search.calibration import Audit
from iosfarm.search.history import BoundHistory
from iosfarm.search.latency_model import Floats, LatencyModel
from iosfarm.search.method import Method
from iosfarm.search.predictions import Predictions
from iosfarm.search.problem import PartProblem

MARGIN = 0.03
"""Share by which noise may make a larger stage look faster than a smaller one that it contains."""

ENOUGH_REPEATS = 8
"""Stages measured twice that show how steady a device is."""

EXACT = 1e-12
"""Relative rounding of a sum."""


@dataclass(frozen=True)
class Bound:
    """What all parts together take at least and at most: seconds. statistical: whether `lower` rests on the model;
    structural: the lower bound without it. noise: what both lower bounds leave for the noise of measured latencies.
    """

    lower: float
    upper: float
    structural: float
    statistical: bool
    noise: float


class NetworkBounds:
    """Is told latencies, by class number; knows the best schedule, and what every schedule takes at least.

    problems: of each part, in order. One thread at a time.
    """

    def __init__(
        self, problems: Sequence[PartProblem], method: Method, model: LatencyModel | None = None, *, seed: int = 0
    ) -> None:
        self.method = method
        self.problems = list(problems)
        model = model or LatencyModel()
        self.parts = {id(p): PartBounds(p, model) for p in self.problems}
        self.distinct = [part.problem for part in self.parts.values()]
        self._copies = {key: sum(1 for p in self.problems if id(p) == key) for key in self.parts}
        self.factory = self.problems[0].factory
        count = self.factory.class_count
        self.seconds: Floats = np.full(count, np.nan)
        """Latency of each class; NaN where unknown, infinite where infeasible."""
        self.errors: Floats = np.zeros(count)
        """Standard error of each of them, relative."""
        self._shares: Floats = np.full(count, np.nan)
        self._blocked = np.zeros(count, np.bool_)
        self._place()
        where = self._part, self._stage
        self.predictions = Predictions(list(self.parts.values()), self.kind, where, model, method, seed)
        self.margin = MARGIN
        self._structural = Audit()
        self.last: Bound | None = None
        """What `bound` returned last."""
        self.history = BoundHistory()
        """What `bound` returned each time that it was something new."""
        self._repeats: list[tuple[float, float]] = []
        self._stale = True

    @property
    def audits(self) -> Mapping[str, Audit]:
        """Of each kind of bound, how many were put to the test, and how many failed."""
        return {"statistical": self.predictions.audit, "structural": self._structural}

    def _place(self) -> None:
        """A part and stage number for each class, its kind, and how many units it has."""
        count = len(self.seconds)
        self.kind: NDArray[np.int8] = np.zeros(count, np.int8)
        self.size: NDArray[np.int64] = np.zeros(count, np.int64)
        self._stage = np.full(count, -1, np.int64)
        self._part = np.full(count, -1, np.int64)
        for number, part in reversed(list(enumerate(self.parts.values()))):
            classes = part.problem.classes
            self._stage[classes], self._part[classes] = np.arange(len(classes)), number
            self.kind[classes] = part.kinds
            self.size[classes] = np.add.reduceat(
                part.group_sizes[part.problem.space.stage_groups], part.problem.space.stage_groups_offsets[:-1]
            )

    def where(self, number: int) -> tuple[PartProblem, int]:
        """A part that holds a class, and the stage's number there."""
        return self.distinct[self._part[number]], int(self._stage[number])

    def copies(self, problem: PartProblem) -> int:
        """How many parts of the network are alike."""
        return self._copies[id(problem)]

    @property
    def class_count(self) -> int:
        """Distinct stages."""
        return len(self.seconds)

    # -- being told ----------------------------------------------------------------------------------------------

    def tell(self, number: int, seconds: float, error: float = 0.0) -> None:
        """The latency of a class; infinite for one that can never run on this device. error: its standard error, as a
        share of it.

        Raises:
            ValueError: the latency is NaN, zero or negative, or the error is no share.
        """
        if math.isnan(seconds) or seconds <= 0:
            raise ValueError(f"a latency of {seconds} s")
        if not 0 <= error < math.inf:
            raise ValueError(f"a standard error of {error}")
        if math.isnan(self.seconds[number]):
            self.predictions.check(number, seconds, self.unsteadiness * error)
        elif error > 0 and self.errors[number] > 0 and math.isfinite(seconds):
            self._repeats.append((math.log(seconds / self.seconds[number]), math.hypot(error, self.errors[number])))
        self.errors[number] = error
        self.seconds[number] = seconds
        self._stale = True

    @property
    def unsteadiness(self) -> float:
        """How much further apart two measurements of a stage are than their own standard errors say: samples taken at
        once share what changes from one time to another. One until enough stages were measured twice.
        """
        if len(self._repeats) < ENOUGH_REPEATS:
            return 1.0
        differences, errors = np.array(self._repeats).T
        # Medians, as single disturbances are no steady noise; 0.67 of a standard deviation is a normal's median size.
        return max(1.0, float(np.median(np.abs(differences)) / 0.6745 / np.sqrt(np.mean(errors**2))))

    def tell_share(self, number: int, seconds: float) -> None:
        """The device time of a unit, given by the class of the unit alone, where many copies of it run at once."""
        self._shares[number] = seconds
        self._stale = True

    @property
    def units(self) -> list[int]:
        """Classes of single units."""
        return [int(number) for number in np.flatnonzero(self.kind == Kind.UNIT)]

    @property
    def units_missing(self) -> bool:
        """Whether the latency of a single unit is still to come."""
        return bool((np.isnan(self.seconds) & ~self._blocked & (self.kind == Kind.UNIT)).any())

    @property
    def shares_known(self) -> bool:
        """Whether some structural bounds rest on `tell_share`."""
        return bool(np.isfinite(self._shares).any())

    def block(self, number: int) -> None:
        """A class whose latency cannot be had: it is not used, and stays bounded from below."""
        self._blocked[number] = True
        self._stale = True

    def _audit_structure(self) -> None:
        """Compare every measured stage with what it takes at least, whichever was measured first; where it is faster by
        more than the margin, the margin becomes as wide as that.
        """
        least = np.zeros(len(self.seconds))
        for part in self.parts.values():
            # Stages of one class contain the same stages; in a part that holds fewer of them fewer were measured.
            np.maximum.at(least, part.problem.classes, part.structural)
        tested = np.isfinite(self.seconds) & (least > 0)
        ratios = self.seconds[tested] / least[tested]
        self._structural = Audit(len(ratios), int((ratios < (1 - MARGIN) * (1 - EXACT)).sum()))
        self.margin = max(MARGIN, 1 - float(ratios.min(initial=1.0)))

    # -- bounds --------------------------------------------------------------------------------------------------

    def bound(self) -> Bound:
        """What is known of the best schedule; infinite upper bound where there is none yet."""
        self._refresh()
        self.last = self._total(self._copies)
        self.history.note(int((~np.isnan(self.seconds)).sum()), self.last.lower, self.last.upper)
        return self.last

    def path(self, problem: PartProblem) -> list[int]:
        """Stage numbers of the part's best schedule so far, in the order they run; empty where there is none."""
        self._refresh()
        known = self.parts[id(problem)].known
        return problem.space.shortest(np.where(np.isnan(known), np.inf, known))[1]

    def on_shortest_paths(self) -> list[int]:
        """Measured classes that the lower bound rests on."""
        self._refresh()
        classes = [part.problem.classes[self._shortest[key]] for key, part in self.parts.items()]
        found = np.unique(np.concatenate(classes))
        return [int(number) for number in found[np.isfinite(self.seconds[found])]]

    def part_bound(self, problem: PartProblem) -> Bound:
        """As `bound`, of one part."""
        self._refresh()
        return self._total({id(problem): 1})

    def _total(self, copies: Mapping[int, int]) -> Bound:
        """Bounds of parts, added up; the lower ones less what noise can make of the latencies that they hold."""
        upper = sum(count * self._upper[key] for key, count in copies.items())
        lower = sum(count * min(self._least[key], self._upper[key]) for key, count in copies.items())
        structural = sum(count * min(self._least_structural[key], self._upper[key]) for key, count in copies.items())
        noise = self._noise(copies)
        return Bound(max(0.0, lower - noise), upper, max(0.0, structural - noise), structural < lower, noise)

    def _noise(self, copies: Mapping[int, int]) -> float:
        """What the sum of the latencies on the shortest paths under the bounds may be too long by, in seconds: the
        confidence's normal quantile of its standard error; errors of different stages are independent.
        """
        times = np.zeros(len(self.seconds))
        for key, count in copies.items():
            np.add.at(times, self.parts[key].problem.classes[self._shortest[key]], count)
        errors = times * np.where(np.isfinite(self.seconds), self.seconds, 0.0) * self.errors * self.unsteadiness
        return NormalDist().inv_cdf(self.method.confidence) * float(np.sqrt(np.sum(errors**2)))

    def lower_bounds(self, problem: PartProblem) -> Floats:
        """Of each stage of a part: its latency where it is known, else what it takes at least."""
        self._refresh()
        return self._lower[id(problem)]

    def expected_latencies(self, problem: PartProblem) -> Floats:
        """Of each stage of a part: as `lower_bounds`, or what the regression predicts where that is more."""
        self._refresh()
        return self._expected[id(problem)]

    def _part_gap(self, key: int) -> float:
        upper, lower = self._upper[key], min(self._least[key], self._upper[key])
        return upper / lower - 1 if 0 < lower < math.inf else math.inf

    def _refresh(self) -> None:
        """Recompute bounds and predictions if something was told since."""
        if not self._stale:
            return
        self._stale = False
        parts = self.parts.values()
        for part in parts:
            part.tell(self.seconds)
        if np.isnan(self.seconds).any():
            for part in parts:
                part.contain()
                part.share(self._shares)
            self._audit_structure()
        ready = not self.units_missing and self.method.name == "certified"
        statistical = self.predictions.update(self.seconds, self.errors * self.unsteadiness) if ready else None
        self._upper: dict[int, float] = {}
        self._lower: dict[int, Floats] = {}
        self._expected: dict[int, Floats] = {}
        self._least: dict[int, float] = {}
        self._shortest: dict[int, list[int]] = {}
        self._least_structural: dict[int, float] = {}
        for key, part in self.parts.items():
            space, classes = part.problem.space, part.problem.classes
            unknown = np.isnan(part.known)
            lower = np.where(unknown, (1 - self.margin) * part.structural, part.known)
            self._least_structural[key] = space.shortest(lower)[0]
            self._upper[key] = space.shortest(np.where(unknown, np.inf, part.known))[0]
            expected = lower
            if statistical is not None:
                predicted, bound = statistical[0][classes], statistical[1][classes]
                lower = np.where(unknown, np.maximum(lower, bound), lower)
                expected = np.where(unknown, np.maximum(lower, predicted), lower)
            self._lower[key], self._expected[key] = lower, expected
            self._least[key], self._shortest[key] = space.shortest(lower)
