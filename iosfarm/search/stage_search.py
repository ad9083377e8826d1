"""`StageSearch`: which stages of a network's parts to measure next, and how good the best schedule so far is.

The dynamic program is a shortest path from the full state to the empty one. Stages that were not measured are bounded
from below, in two ways (see `Certificate` for what each assumes); the tighter one counts. Each round asks for what lies
on the shortest paths under the bounds, see `lazy`, until the best measured path is within the gap of the shortest one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.bounds import Kind, PartBounds
from iosfarm.search.calibration import Audit, conformal_quantile, sample_size
from iosfarm.search.latency_model import Floats, LatencyModel, Work
from iosfarm.search.lazy import pick, prune
from iosfarm.search.method import Method
from iosfarm.search.paths import backward, forward
from iosfarm.search.problem import PartProblem
from iosfarm.search.space import StateSpace

MARGIN = 0.03
"""Share by which noise may make a larger stage look faster than a smaller one that it contains."""

SAMPLE_SHARE = 1 / 8
"""A network has to have this many times fewer stages to sample than stages: else structural bounds do better."""

WIDENING = 1.5
"""Factor on the statistical margin for each fit, after the first, whose bounds broke more often than their confidence
allows. The first fits know little; those that they got wrong calibrate the next one."""

FIRST_GROUPS = 16
"""Groups of several units that are measured first: their predictions need them, and a random sample holds few."""

RANDOM_SHARE = 0.1
"""Stages that each round adds to the random sample, relative to those that it chooses."""

_EXACT = 1e-12


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


class StageSearch:
    """Asks for stages, by class number; is told their latencies; knows the best schedule at any time.

    problems: of each part, in order. One thread at a time.
    """

    def __init__(
        self, problems: Sequence[PartProblem], method: Method, model: LatencyModel | None = None, *, seed: int = 0
    ) -> None:
        self.method = method
        self.problems = list(problems)
        self._model = model or LatencyModel()
        self.parts = {id(p): PartBounds(p, self._model) for p in self.problems}
        self._copies = {key: sum(1 for p in self.problems if id(p) == key) for key in self.parts}
        self.factory = self.problems[0].factory
        count = self.factory.class_count
        self.seconds: Floats = np.full(count, np.nan)
        """Latency of each class; NaN where unknown, infinite where infeasible."""
        self.errors: Floats = np.zeros(count)
        """Standard error of each of them, relative."""
        self._shares: Floats = np.full(count, np.nan)
        self._blocked = np.zeros(count, np.bool_)
        self._asked = np.zeros(count, np.bool_)
        self._place()
        self._drawn = 0
        self._sample = np.random.default_rng([seed, 1]).permutation(np.flatnonzero(self.population))
        self.margin = MARGIN
        self.audits = {"statistical": Audit(), "structural": Audit()}
        self._broken: set[int] = set()
        self._bounds: Floats = np.zeros(0)  # statistical, by class, as of the last round
        self._recent = Audit()  # of statistical bounds, since the last fit
        self._refuted = 0  # fits whose bounds broke more often than their confidence allows
        self.rounds = 0
        self.last: Bound | None = None
        """What `bound` returned last."""
        self._eagerness = 0.0
        self._stale = True

    def _place(self) -> None:
        """A part and stage number for each class, and which classes may be sampled."""
        count = len(self.seconds)
        self.kind: NDArray[np.int8] = np.zeros(count, np.int8)
        self.size: NDArray[np.int64] = np.zeros(count, np.int64)
        self._stage = np.full(count, -1, np.int64)
        self._part = np.full(count, -1, np.int64)
        self.distinct = [part.problem for part in self.parts.values()]
        for number, part in reversed(list(enumerate(self.parts.values()))):
            classes = part.problem.classes
            self._stage[classes], self._part[classes] = np.arange(len(classes)), number
            self.kind[classes] = part.kinds
            self.size[classes] = np.add.reduceat(
                part._sizes[part.problem.space.stage_groups], part.problem.space.stage_groups_offsets[:-1]
            )
        self.population = (self.kind == Kind.GROUP) | (self.kind == Kind.CONCURRENT)

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
        self.errors[number] = error
        first = math.isnan(self.seconds[number])
        if first:
            self._audit(number, seconds)
        self.seconds[number] = seconds
        self._asked[number] = False
        self._stale = True

    def tell_share(self, number: int, seconds: float) -> None:
        """The device time of a unit, given by the class of the unit alone, where many copies of it run at once."""
        self._shares[number] = seconds
        self._stale = True

    @property
    def units(self) -> list[int]:
        """Classes of single units."""
        return [int(number) for number in np.flatnonzero(self.kind == Kind.UNIT)]

    @property
    def shares_known(self) -> bool:
        """Whether some structural bounds rest on `tell_share`."""
        return bool(np.isfinite(self._shares).any())

    def block(self, number: int) -> None:
        """A class whose latency cannot be had: it is not used, and stays bounded from below."""
        self._blocked[number] = True
        self._asked[number] = False
        self._stale = True

    def _audit(self, number: int, seconds: float) -> None:
        """Put the statistical bounds of the last round to the test."""
        bound = self._bounds[number] if len(self._bounds) else 0.0
        if not bound > 0:
            return
        held = seconds >= bound
        self.audits["statistical"].add(held=held)
        self._recent.add(held=held)
        if not held:
            self._broken.add(number)

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
        self.audits["structural"] = Audit(len(ratios), int((ratios < (1 - MARGIN) * (1 - _EXACT)).sum()))
        self.margin = max(MARGIN, 1 - float(ratios.min(initial=1.0)))

    # -- asking --------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether something was asked for and not told yet."""
        return bool(self._asked.any())

    def ask(self, most: int, *, despite_noise: bool = False) -> list[int]:
        """Classes to measure next, about `most`; those asked for before are not repeated. Empty when the gap is
        reached (noise apart, unless `despite_noise`), when nothing more can be asked, or when only answers help.
        """
        chosen = self._first() if self.method.name == "certified" else self._all()
        if chosen is None:
            bound = self.bound()
            noise = bound.noise if despite_noise else 0.0
            enough = bound.upper <= (bound.lower + bound.noise - noise) * (1 + self.method.gap) * (1 + _EXACT)
            chosen = [] if self._units_waiting() or enough else self._next(most, noise / max(bound.upper, 1e-300))
        self._asked[chosen] = True
        self.rounds += bool(chosen)
        return chosen

    def forget_asked(self) -> None:
        """What was asked for will not be answered: it may be asked for again."""
        self._asked[:] = False

    @property
    def reached(self) -> bool:
        """Whether the best schedule is within the gap; of an exhaustive search, whether all is known that can be."""
        if self.method.name == "exhaustive":
            return not (np.isnan(self.seconds) & ~self._blocked).any()
        bound = self.bound()
        return bound.upper <= bound.lower * (1 + self.method.gap) * (1 + _EXACT)

    def _open(self) -> NDArray[np.bool_]:
        return np.isnan(self.seconds) & ~self._blocked & ~self._asked

    def _all(self) -> list[int]:
        open_ = np.flatnonzero(self._open())
        return [int(number) for number in open_[np.argsort(self.size[open_], kind="stable")]]

    def _first(self) -> list[int] | None:
        """Units, and a random sample with as many latencies as a quantile needs; None when they have been asked for."""
        open_ = self._open()
        units = np.flatnonzero(open_ & (self.kind == Kind.UNIT))
        drawn = self._sample[: self._drawn]
        usable = int((self._asked[drawn] | np.isfinite(self.seconds[drawn])).sum())
        missing = sample_size(self.method.confidence) + 1 - usable
        if not self._sampling or missing <= 0:
            return [int(number) for number in units] or None
        groups = self._sample[self.kind[self._sample] == Kind.GROUP][:FIRST_GROUPS]
        again = drawn[open_[drawn]]  # asked for before, and forgotten
        sampled = self._draw(max(0, missing - len(again)))
        first = [*units, *(number for number in groups if open_[number]), *again, *sampled]
        return list(dict.fromkeys(map(int, first))) or None

    @property
    def _sampling(self) -> bool:
        enough = SAMPLE_SHARE * len(self._sample) >= sample_size(self.method.confidence)
        return self.method.certificate == "statistical" and enough

    def _draw(self, count: int) -> list[int]:
        """The next of the random sample; those known already are in it, and need not be asked for."""
        drawn = self._sample[self._drawn : self._drawn + count]
        self._drawn += len(drawn)
        self._stale = True
        open_ = self._open()
        return [int(number) for number in drawn if open_[number]]

    def _units_waiting(self) -> bool:
        return bool((self._asked & (self.kind == Kind.UNIT)).any())

    def _next(self, most: int, noise: float) -> list[int]:
        open_ = self._open()
        gaps = {key: self._part_gap(key) for key in self.parts}
        undecided = [key for key, gap in sorted(gaps.items(), key=lambda item: -item[1]) if gap > self.method.gap]
        undecided = undecided or [max(gaps, key=lambda key: gaps[key])]
        share = max(4, -(-most // len(undecided)))
        chosen: list[int] = []
        # A round of few stages is followed by ones that ask beyond what the predictions say is enough.
        for key in undecided:
            chosen += self._pick(key, open_, share, noise)
            if len(chosen) >= most:
                break
        self._eagerness = min(0.02, 2 * self._eagerness + 0.001) if len(chosen) < most / 8 else 0.0
        if self._sampling and chosen:
            chosen += [n for n in self._draw(max(1, round(RANDOM_SHARE * len(chosen)))) if n not in chosen]
        return chosen

    def _pick(self, key: int, open_: NDArray[np.bool_], most: int, noise: float) -> list[int]:
        """Open classes of one part: those on the path that is expected to be best, and on the shortest ones."""
        part = self.parts[key]
        space, classes = part.problem.space, part.problem.classes
        unknown = np.isnan(part.known)
        # What is blocked cannot be used, however little it may take: look for paths around it.
        expected = np.where(unknown & self._blocked[classes], math.inf, self._expected[key])
        bound = np.where(unknown & (self._asked | self._blocked)[classes], expected, self._lower[key])
        after, choice = backward(space.order, space.offsets, space.stage_of, space.next_of, expected)
        chosen = []
        for stage in _follow(space, choice):
            if open_[classes[stage]]:
                chosen.append(int(classes[stage]))
                open_[classes[stage]] = False
                bound[classes == classes[stage]] = expected[stage]
        upper = min(self._upper[key], float(after[0]))
        enough = upper / (1 + self.method.gap) * (1 + self._eagerness + noise - _EXACT)
        after, _ = backward(space.order, space.offsets, space.stage_of, space.next_of, bound)
        before = forward(space.order, space.offsets, space.stage_of, space.next_of, bound)
        pruned = prune(space.order, space.offsets, space.stage_of, space.next_of, bound, before, after, enough)
        picked = pick(*pruned, bound, expected, classes, open_, enough, max(0, most - len(chosen)))
        return [*chosen, *map(int, picked)]

    # -- bounds --------------------------------------------------------------------------------------------------

    def bound(self) -> Bound:
        """What is known of the best schedule; infinite upper bound where there is none yet."""
        self._refresh()
        self.last = self._total(self._copies)
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
        errors = times * np.where(np.isfinite(self.seconds), self.seconds, 0.0) * self.errors
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
        units_missing = np.isnan(self.seconds) & ~self._blocked & (self.kind == Kind.UNIT)
        ready = not units_missing.any() and self.method.name == "certified"
        statistical = self._regress() if ready else None
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
        self._bounds = np.zeros(0) if statistical is None else statistical[1]

    def _regress(self) -> tuple[Floats, Floats]:
        """By class: the expected latency, and what it is at least with the wanted confidence (0: no idea)."""
        parts = list(self.parts.values())
        for part in parts:
            part.describe_units()
        saved, group_deviation, (groups, group_errors) = self._fit_groups(parts)
        ratios = np.concatenate([part.merges_measured() for part in parts])
        merged = float(np.median(ratios)) if len(ratios) else 0.8
        numbers, residuals = self._fit_concurrent(parts, saved)
        self._refuted += self._recent.refuted(self.method.confidence)
        self._recent = Audit()
        calibrating = np.zeros(len(self.seconds), np.bool_)
        calibrating[self._sample[: self._drawn]] = True
        calibrating[list(self._broken)] = True
        deviation = np.where(self.kind == Kind.CONCURRENT, self._model.deviation, group_deviation)
        scores = np.concatenate(
            [
                -residuals[calibrating[numbers]],
                group_errors[calibrating[groups]] / group_deviation,
            ]
        )
        quantile = conformal_quantile(scores, self.method.confidence) if self._sampling else math.inf
        expected, leverages = np.zeros(len(self.seconds)), np.zeros(len(self.seconds))
        for part in parts:
            expected[part.problem.classes], leverages[part.problem.classes] = part.predict(saved, merged)
        deviation *= np.sqrt(1 + leverages)
        margin = max(quantile, 0.0) * WIDENING ** max(0, self._refuted - 1)
        bound = np.where(self.population, expected * np.exp(-margin * deviation), 0.0)
        return expected, bound

    def _fit_groups(self, parts: Iterable[PartBounds]) -> tuple[float, float, tuple[NDArray[np.int64], Floats]]:
        """What a unit saves by running behind another; the predictions' deviation; (classes, -log errors)."""
        found: dict[int, tuple[float, float, float]] = {}
        for part in parts:
            sums, sizes, seconds, stages = part.groups_measured
            found.update(
                zip(part.problem.classes[stages].tolist(), zip(sums, sizes, seconds, strict=True), strict=True)
            )
        if not found:
            return 0.0, 0.05, (np.zeros(0, np.int64), np.zeros(0))
        sums, sizes, seconds = np.array(list(found.values())).T
        saved = float(np.median((sums - seconds) / (sizes - 1)))
        errors = np.log(np.maximum(sums - saved * (sizes - 1), 0.5 * sums) / seconds)
        deviation = max(0.003, float(np.sqrt(np.mean(errors**2))))
        return saved, deviation, (np.array(list(found), np.int64), errors)

    def _fit_concurrent(self, parts: Iterable[PartBounds], saved: float) -> tuple[NDArray[np.int64], Floats]:
        """Fit the regression; returns classes and their studentised residuals."""
        finite = np.isfinite(self.seconds) & (self.kind == Kind.CONCURRENT)
        works, numbers = [], []
        for number, part in enumerate(parts):
            mine = np.flatnonzero(finite & (self._part == number))
            if len(mine):
                works.append(part.work(self._stage[mine], saved))
                numbers.append(mine)
        if not works:
            return np.zeros(0, np.int64), np.zeros(0)
        known = np.concatenate(numbers)
        return known, self._model.fit(Work.concatenate(works), self.seconds[known], owner=id(self))


def _follow(space: StateSpace, choice: NDArray[np.int64]) -> Iterator[int]:
    """Stages on the path that the choices make, from the full state on."""
    state = 0
    while state >= 0 and choice[state] >= 0:
        yield int(space.stage_of[choice[state]])
        state = int(space.next_of[choice[state]])
