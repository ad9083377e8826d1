"""Measuring again what the database remembers: has the device, or the world around it, changed?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iosfarm.db import LatencyDatabase
from iosfarm.farm.executors.executor import DeviceInfo, Executor, MeasureTask
from iosfarm.ir.errors import GraphError, IosfarmError
from iosfarm.ir.measurement import Measurement, percentile
from iosfarm.ir.stage import Stage
from iosfarm.workers.settings import Effort

CHUNK = 12
"""Stages that are measured side by side."""

_MAD_TO_SIGMA, _MEDIAN_TO_MEAN = 1.4826, 1.2533
"""Of a normal distribution: σ over MAD, and the standard error of a median over that of a mean."""


@dataclass(frozen=True)
class Checked:
    """A stage, what was remembered and what was measured now, in seconds. drifted: more than noise and tolerance."""

    stage: str
    key: str
    recorded: float
    measured: float
    drifted: bool

    @property
    def ratio(self) -> float:
        """Now over then."""
        return self.measured / self.recorded


@dataclass(frozen=True)
class Verification:
    """drift: of the median stage, relative: 0.02 is 2% slower than remembered; None where nothing was measured."""

    device: str
    simulated: bool
    stages: tuple[Checked, ...]
    failed: int
    drift: float | None

    def within(self, tolerance: float) -> bool:
        """Whether the device is as it was."""
        return self.drift is not None and abs(self.drift) <= tolerance


def verify(
    database: LatencyDatabase,
    executor: Executor,
    spec: str,
    *,
    count: int = 50,
    tolerance: float = 0.05,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> Verification:
    """Measure a random sample of what this device has measured in this environment, and record it.

    A stage has drifted where its two medians differ by more than the tolerance and by more than three standard errors.

    Raises:
        UsageError: no such device here. IosfarmError: the database has nothing of it.
    """
    info = executor.open(spec)[0]
    remembered = database.sample(info.device, info.environment, count, seed)
    if not remembered:
        what = f"nothing was measured on {info.device.model} in this environment"
        raise IosfarmError(what, where=database.name, hint="`iosfarm db stats` lists what there is")
    before = {recorded.measurement.stage_key: recorded.measurement for _, recorded in remembered}
    stages = {}
    for canonical, recorded in remembered:
        try:
            stages[recorded.measurement.stage_key] = Stage.from_json(canonical)
        except GraphError:
            continue  # of another version of iosfarm
    checked: list[Checked] = []
    keys = list(stages)
    for start in range(0, len(keys), CHUNK):
        chunk = {key: stages[key] for key in keys[start : start + CHUNK]}
        for now in _measured(executor, info, chunk, database):
            then = before[now.stage_key]
            drifted = _differ(then, now, tolerance)
            checked.append(Checked(stages[now.stage_key].describe(), now.stage_key, then.median, now.median, drifted))
        report(min(start + CHUNK, len(keys)), len(keys))
    drift = percentile([item.ratio for item in checked], 0.5) - 1 if checked else None
    ordered = tuple(sorted(checked, key=lambda item: -abs(math.log(item.ratio))))
    return Verification(info.device.model, info.device.simulated, ordered, len(remembered) - len(checked), drift)


def _measured(
    executor: Executor, info: DeviceInfo, stages: dict[str, Stage], database: LatencyDatabase
) -> list[Measurement]:
    """Measures stages and records what came of it; returns what can be compared."""
    task = executor.submit(info.name, MeasureTask(tuple(s.canonical for s in stages.values()), Effort.NORMAL))
    found: Sequence[Measurement] | None = None
    while found is None:
        found = next((outcome.measurements for outcome in executor.wait(1.0) if outcome.task == task), None)
    database.record([(stages[m.stage_key].summary, m) for m in found], info.device, info.environment)
    return [measurement for measurement in found if measurement.ok]


def _differ(then: Measurement, now: Measurement, tolerance: float) -> bool:
    errors = [_MEDIAN_TO_MEAN * _MAD_TO_SIGMA * m.mad / math.sqrt(len(m.samples)) for m in (then, now)]
    difference = abs(now.median - then.median)
    return difference > tolerance * then.median and difference > 3 * math.hypot(*errors)
