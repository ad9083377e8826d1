"""A regression of a stage's latency on the latencies of its groups alone: what to expect of a stage not yet measured.

Groups that run side by side share the device. With B the longest group alone, L the time that the device would need for
all of their work if it were full (each unit's latency alone times its *load*, the share of the device that it can fill)
and Q the time to launch all operators one after the other, the latency is

    T = (B^p + L^p + Q^p)^(1/p) + overhead + (groups - 1) * fork

a smooth maximum of the three: the roofline model (Williams et al., CACM 2009) with concurrency. The loads, p, the cost
of a launch, overhead and fork are fitted to the logarithms of what was measured (Levenberg-Marquardt, with normal
priors). A unit's load is the logistic function of a linear term, of its latency, operations and bytes a second and
operators a second, plus a deviation of its own: so a kind of unit that was hardly measured yet starts from what units
like it did. Units are the same where their keys are; one model serves all parts and networks on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.quadratic import quadratic_forms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_ROWS = 3000
"""Observations that a fit uses at most, spread evenly: more hardly change it, and its time grows with them."""

_STEPS = 60
_DEVIATION = 0.7  # prior of a unit's own deviation from the linear term, in logits
_SHAPE = np.log([3.0, 0.2, 0.1, 0.1])  # p - 1; overhead, fork and launch in latencies of a typical unit
_SHAPE_PRIOR = np.array([1.0, 2.0, 2.0, 2.0])


@dataclass(frozen=True)
class StageUnits:
    """Groups of many stages, and units of many groups, one after the other: stage s has the groups
    groups[groups_at[s] : groups_at[s + 1]], likewise units. seconds: of each unit of a group, its share of the group's.
    """

    groups_at: Ints
    groups: NDArray[np.int32]
    units_at: Ints
    units: Ints
    seconds: Floats


@dataclass(frozen=True)
class Work:
    """n stages as the model sees them. longest: seconds of the longest group alone. groups, operators: how many.
    rows, types, seconds: for each unit of each stage the stage, the unit's type and its share of its group's latency.
    """

    longest: Floats
    groups: Floats
    operators: Floats
    rows: Ints
    types: Ints
    seconds: Floats

    @staticmethod
    def concatenate(works: Sequence[Work]) -> Work:
        """All stages in one, in order."""
        firsts = np.cumsum([0, *(len(work.longest) for work in works)])
        return Work(
            np.concatenate([work.longest for work in works]),
            np.concatenate([work.groups for work in works]),
            np.concatenate([work.operators for work in works]),
            np.concatenate([work.rows + first for work, first in zip(works, firsts, strict=False)]),
            np.concatenate([work.types for work in works]),
            np.concatenate([work.seconds for work in works]),
        )

    def take(self, stages: Ints) -> Work:
        """Some of the stages, without repetition, in this order."""
        numbers = np.full(len(self.longest), -1, np.int64)
        numbers[stages] = np.arange(len(stages))
        rows = numbers[self.rows]
        kept = rows >= 0
        return Work(
            self.longest[stages],
            self.groups[stages],
            self.operators[stages],
            rows[kept],
            self.types[kept],
            self.seconds[kept],
        )


class LatencyModel:
    """The regression for one device and environment. Give it unit types, fit it, and ask."""

    def __init__(self) -> None:
        self._types: dict[str, int] = {}
        self._descriptions: list[tuple[float, ...]] = []
        self._deviations: Floats = np.zeros(0)
        self._linear: Floats = np.zeros(5)
        self._shape: Floats = _SHAPE.copy()
        self._scale = 1.0
        self._information: Floats = np.zeros((0, 0))  # of the last fit, priors aside
        self._given: dict[object, tuple[Work, Floats]] = {}
        self.deviation = 0.1
        """Standard deviation of log(measured / predicted), left out of the fit."""

    def type_of(self, key: str, seconds: float, flops: float, moved: float, operators: int) -> int:
        """The number of a type of unit, by the unit's key; described when it is first seen."""
        if key not in self._types:
            self._types[key] = len(self._types)
            rate, traffic = np.log((flops + 1e4) / seconds), np.log((moved + 1e2) / seconds)
            self._descriptions.append((np.log(seconds), rate, traffic, np.log(operators / seconds)))
            self._deviations = np.append(self._deviations, 0.0)
            self._scale = float(np.exp(np.median([description[0] for description in self._descriptions])))
        return self._types[key]

    @property
    def loads(self) -> Floats:
        """Share of the device that each type of unit can fill, 0 to 1."""
        return _logistic(self._deviations + self._design() @ self._linear)

    def predict(self, longest: Floats, load: Floats, groups: Floats, operators: Floats) -> Floats:
        """Seconds of stages; load: sum over their units of seconds times load."""
        result: Floats = np.exp(_log_latency(longest, load, groups, operators, self._shape, self._scale))
        return result

    def leverages(self, types: Ints, units: StageUnits, longest: Floats, load: Floats, operators: Floats) -> Floats:
        """How little the fit says about each of many stages: the variance of the prediction's logarithm, relative to
        that of a measurement around it. types: of the units that `units` numbers.
        """
        p = 1 + np.exp(self._shape[0])
        groups = np.diff(units.groups_at).astype(np.float64)
        total = self.predict(longest, load, groups, operators)
        by_load, by_shape = self._derivatives(longest, load, groups, operators, total, p)
        loads, design = self.loads, self._design()
        own, which = np.unique(types, return_inverse=True)
        slope = (loads * (1 - loads))[own]
        # The derivative by the linear term follows from those by the units' own deviations: fold it in.
        count = len(loads)
        fold = np.zeros((len(own) + 4, count + 9))
        fold[np.arange(len(own)), own] = 1
        fold[: len(own), count : count + 5] = design[own]
        fold[len(own) :, count + 5 :] = np.eye(4)
        covariance = fold @ self._covariance() @ fold.T
        result: Floats = quadratic_forms(
            units.groups_at,
            units.groups,
            units.units_at,
            units.units,
            units.seconds,
            which.astype(np.int64),
            slope,
            by_load,
            by_shape,
            covariance,
        )
        return result

    def _covariance(self) -> Floats:
        """Of the parameters, for a residual of variance one; types that came after the fit have their prior's."""
        count, fitted = len(self._deviations), len(self._information) - 9
        normal = np.diag(self._precision())
        if fitted >= 0:
            at = np.concatenate([np.arange(fitted), np.arange(count, count + 9)])
            normal[np.ix_(at, at)] += self._information
        return np.linalg.inv(normal).astype(np.float64, copy=False)

    def _precision(self) -> Floats:
        """Of the priors, relative to a residual of variance one."""
        types = len(self._deviations)
        precision = np.concatenate([np.full(types, _DEVIATION**-2), np.ones(5), _SHAPE_PRIOR**-2])
        result: Floats = precision * min(max(self.deviation, 0.005), 0.05) ** 2
        return result

    def fit(self, work: Work, measured: Floats, *, owner: object = None) -> Floats:
        """Fit to stages of several groups and their latencies, and to what other owners gave last.

        Returns for each of the owner's log(measured / predicted) with that stage left out of the fit (to first order),
        relative to its standard deviation: the studentised residual.
        """
        self._given.pop(owner, None)
        self._given[owner] = work, measured
        works, seconds = zip(*self._given.values(), strict=True)
        scores = self._fit(Work.concatenate(works), np.concatenate(seconds))
        return scores[len(scores) - len(measured) :]

    def _fit(self, work: Work, measured: Floats) -> Floats:
        count = len(measured)
        rows = np.unique(np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(np.int64))
        logs = np.log(measured)
        theta = np.concatenate([self._deviations, self._linear, self._shape])
        center = np.concatenate([np.zeros(len(self._deviations) + 5), _SHAPE])
        precision = self._precision()
        theta, jacobian = self._solve(work.take(rows), logs[rows], theta, center, precision)
        self._set(theta)
        self._information = jacobian.T @ jacobian
        scores: Floats = logs - self._log_predict(work, theta)[0]
        normal = self._information + np.diag(precision)
        leverage = np.einsum("ij,ij->i", jacobian, np.linalg.solve(normal, jacobian.T).T)
        scores[rows] /= np.sqrt(np.maximum(1 - leverage, 0.05))
        self.deviation = max(0.003, float(np.sqrt(np.mean(scores[rows] ** 2)))) if count else 0.1
        return scores / self.deviation

    def _solve(
        self, work: Work, target: Floats, theta: Floats, center: Floats, precision: Floats
    ) -> tuple[Floats, Floats]:
        """Levenberg-Marquardt; returns the parameters, and the Jacobian there."""

        def loss(theta: Floats) -> float:
            value = float(np.sum((target - self._log_predict(work, theta)[0]) ** 2))
            return value + float(np.sum(precision * (theta - center) ** 2))

        damping, current = 1e-3, loss(theta)
        for _ in range(_STEPS):
            predicted, jacobian = self._log_predict(work, theta, jacobian=True)
            normal = jacobian.T @ jacobian + np.diag(precision)
            gradient = jacobian.T @ (target - predicted) - precision * (theta - center)
            before = current
            while damping < 1e6:
                step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
                trial = theta + np.clip(step, -1, 1)
                value = loss(trial)
                if value < current:
                    theta, current, damping = trial, value, max(damping / 5, 1e-9)
                    break
                damping *= 5
            if before - current <= 1e-5 * before:
                break
        return theta, self._log_predict(work, theta, jacobian=True)[1]

    def _log_predict(self, work: Work, theta: Floats, *, jacobian: bool = False) -> tuple[Floats, Floats]:
        """Logarithms of the latencies, and their derivatives by the parameters (empty unless asked for)."""
        types = len(self._deviations)
        design = self._design()
        loads = _logistic(theta[:types] + design @ theta[types : types + 5])
        shape = theta[types + 5 :]
        count = len(work.longest)
        load: Floats = np.bincount(work.rows, work.seconds * loads[work.types], minlength=count).astype(np.float64)
        log = _log_latency(work.longest, load, work.groups, work.operators, shape, self._scale)
        if not jacobian:
            return log, np.empty(0)
        by_load, by_shape = self._derivatives(
            work.longest, load, work.groups, work.operators, np.exp(log), 1 + np.exp(shape[0]), shape
        )
        result = np.zeros((count, types + 9))
        slope = (loads * (1 - loads))[work.types]
        np.add.at(result, (work.rows, work.types), by_load[work.rows] * work.seconds * slope)
        result[:, types : types + 5] = result[:, :types] @ design
        result[:, types + 5 :] = by_shape
        return log, result

    def _derivatives(
        self,
        longest: Floats,
        load: Floats,
        groups: Floats,
        operators: Floats,
        total: Floats,
        p: float,
        shape: Floats | None = None,
    ) -> tuple[Floats, Floats]:
        """Of the latencies' logarithms, by the load and by the four shape parameters."""
        shape = self._shape if shape is None else shape
        overhead, fork, launch = self._scale * np.exp(shape[1:])
        queue = launch * operators
        shared = total - overhead - fork * (groups - 1)
        # Powers relative to the maximum `shared`: the bare ones would underflow.
        by_load = (load / shared) ** (p - 1) / total
        terms = [(x / shared) ** p * np.log(np.maximum(x / shared, 1e-12)) for x in (longest, load, queue)]
        by_shape = np.stack(
            [
                shared * sum(terms) / p * (p - 1) / total,
                overhead / total,
                fork * (groups - 1) / total,
                (queue / shared) ** p * shared / total,
            ],
            axis=1,
        )
        return by_load, by_shape

    def _design(self) -> Floats:
        described = np.array(self._descriptions, np.float64).reshape(-1, 4)
        if not len(described):
            return np.ones((0, 5))
        centered = (described - described.mean(axis=0)) / np.maximum(described.std(axis=0), 0.1)
        return np.hstack([np.ones((len(centered), 1)), centered])

    def _set(self, theta: Floats) -> None:
        types = len(self._deviations)
        self._deviations, self._linear, self._shape = np.split(theta, [types, types + 5])


def _log_latency(
    longest: Floats, load: Floats, groups: Floats, operators: Floats, shape: Floats, scale: float
) -> Floats:
    p, (overhead, fork, launch) = 1 + np.exp(shape[0]), scale * np.exp(shape[1:])
    queue = launch * operators
    most = np.maximum(np.maximum(longest, load), queue)
    shared = most * ((longest / most) ** p + (load / most) ** p + (queue / most) ** p) ** (1 / p)
    result: Floats = np.log(shared + overhead + fork * (groups - 1))
    return result


def _logistic(logits: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-logits))
    return result
