"""What the regression says of a network's stages, how far it may be trusted, and whether that trust was deserved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.bounds import Kind, PartBounds
from iosfarm.search.calibration import Audit, conformal_quantile, sample_size
from iosfarm.search.latency_model import Floats, LatencyModel, Work
from iosfarm.search.method import Method

SAMPLE_SHARE = 1 / 8
"""A network has to have this many times fewer stages to sample than stages: else structural bounds do better."""

WIDENING = 1.5
"""Factor on the statistical margin for each fit, after the first, whose bounds broke more often than their confidence
allows. The first fits know little; those that they got wrong calibrate the next one."""

LEAST_MISFIT = 0.4
"""Share of the predictions' errors that is taken for the model's own at least, however noisy the latencies are."""

Ints = NDArray[np.int64]


class Predictions:
    """Expected latencies and statistical lower bounds of all stages of a network, by class.

    kinds: of each class. where: of each class the number of a part that holds it, and its stage there. sample: classes
    in random order, of which the first `drawn` calibrate.
    """

    def __init__(
        self,
        parts: Sequence[PartBounds],
        kinds: NDArray[np.int8],
        where: tuple[Ints, Ints],
        model: LatencyModel,
        method: Method,
        seed: int,
    ) -> None:
        self._parts = parts
        self._kinds = kinds
        self._where = where
        self._model = model
        self._method = method
        self.population = (kinds == Kind.GROUP) | (kinds == Kind.CONCURRENT)
        self.sample = np.random.default_rng([seed, 1]).permutation(np.flatnonzero(self.population))
        self._drawn = 0
        self.audit = Audit()
        self._recent = Audit()  # since the last fit
        self._refuted = 0  # fits whose bounds broke more often than their confidence allows
        self._broken: set[int] = set()
        self._bounds: Floats = np.zeros(len(kinds))  # as of the last fit

    @property
    def sampling(self) -> bool:
        """Whether statistical bounds are wanted, and a sample for them is worth its price."""
        enough = SAMPLE_SHARE * len(self.sample) >= sample_size(self._method.confidence)
        return self._method.certificate == "statistical" and enough

    @property
    def drawn(self) -> Ints:
        """The sample so far."""
        return self.sample[: self._drawn]

    def draw(self, count: int) -> Ints:
        """The next of the sample."""
        first = self._drawn
        self._drawn = min(len(self.sample), first + count)
        return self.sample[first : self._drawn]

    def draw_known(self, known: NDArray[np.bool_]) -> None:
        """Draw on as long as the next one is known: what an earlier search drew costs nothing. known: by class."""
        rest = np.flatnonzero(~known[self.sample[self._drawn :]])
        self._drawn = self._drawn + int(rest[0]) if len(rest) else len(self.sample)

    def check(self, number: int, seconds: float, error: float) -> None:
        """Put the bound of the last fit to the test; one that is broken, by more than the latency's own noise, is
        of the next fit's sample. error: standard error of the latency, relative.
        """
        bound = self._bounds[number]
        if not bound > 0:
            return
        held = bool(seconds * (1 + NormalDist().inv_cdf(self._method.confidence) * error) >= bound)
        self.audit.add(held=held)
        self._recent.add(held=held)
        if not held:
            self._broken.add(number)

    def update(self, seconds: Floats, errors: Floats) -> tuple[Floats, Floats]:
        """Fit to what is known: the expected latency of each class, and what it is at least with the wanted confidence
        (0: no idea). errors: of the latencies, relative.

        The errors of the predictions are those of the model and the noise of what they are compared with; only the
        former part a latency from its prediction, so the quantile of the scores is scaled to that.
        """
        for part in self._parts:
            part.describe_units()
        saved, group_deviation, groups, group_errors = self._fit_groups()
        ratios = np.concatenate([part.merges_measured() for part in self._parts])
        merged = float(np.median(ratios)) if len(ratios) else 0.8
        numbers, residuals = self._fit_concurrent(seconds, saved)
        self._refuted += self._recent.refuted(self._method.confidence)
        self._recent = Audit()
        calibrating = np.zeros(len(seconds), np.bool_)
        calibrating[self.drawn] = True
        calibrating[list(self._broken)] = True
        scores = [-residuals[calibrating[numbers]], group_errors[calibrating[groups]] / group_deviation]
        quantile = math.inf
        if self.sampling:
            quantile = conformal_quantile(np.concatenate(scores), self._method.confidence)
        expected, leverages = np.zeros(len(seconds)), np.zeros(len(seconds))
        for part in self._parts:
            expected[part.problem.classes], leverages[part.problem.classes] = part.predict(saved, merged)
        concurrent = self._kinds == Kind.CONCURRENT
        deviation = np.where(
            concurrent,
            np.sqrt(_without(self._model.deviation, errors[numbers]) ** 2 + leverages * self._model.deviation**2),
            _without(group_deviation, errors[groups]),
        )
        margin = max(quantile, 0.0) * WIDENING ** max(0, self._refuted - 1)
        self._bounds = np.where(self.population, expected * np.exp(-margin * deviation), 0.0)
        return expected, self._bounds

    def _fit_groups(self) -> tuple[float, float, Ints, Floats]:
        """What a unit saves by running behind another; the predictions' deviation; classes, and the logarithms of
        expected over measured.
        """
        found: dict[int, tuple[float, float, float]] = {}
        for part in self._parts:
            sums, sizes, seconds, stages = part.groups_measured
            found.update(
                zip(part.problem.classes[stages].tolist(), zip(sums, sizes, seconds, strict=True), strict=True)
            )
        if not found:
            return 0.0, 0.05, np.zeros(0, np.int64), np.zeros(0)
        sums, sizes, seconds = np.array(list(found.values())).T
        saved = float(np.median((sums - seconds) / (sizes - 1)))
        errors = np.log(np.maximum(sums - saved * (sizes - 1), 0.5 * sums) / seconds)
        deviation = max(0.003, float(np.sqrt(np.mean(errors**2))))
        return saved, deviation, np.array(list(found), np.int64), errors

    def _fit_concurrent(self, seconds: Floats, saved: float) -> tuple[Ints, Floats]:
        """Fit the regression; returns classes and their studentised residuals."""
        finite = np.isfinite(seconds) & (self._kinds == Kind.CONCURRENT)
        works, numbers = [], []
        for number, part in enumerate(self._parts):
            mine = np.flatnonzero(finite & (self._where[0] == number))
            if len(mine):
                works.append(part.work(self._where[1][mine], saved))
                numbers.append(mine)
        if not works:
            return np.zeros(0, np.int64), np.zeros(0)
        known = np.concatenate(numbers)
        return known, self._model.fit(Work.concatenate(works), seconds[known], owner=id(self))


def _without(deviation: float, errors: Floats) -> float:
    """A standard deviation less the noise that is in it; not less than `LEAST_MISFIT` of it, as noise is estimated."""
    noise = float(np.mean(errors**2)) if len(errors) else 0.0
    return math.sqrt(max(deviation**2 - noise, (LEAST_MISFIT * deviation) ** 2))
