"""What of some stages a device has measured, and what measuring the rest would take."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Connection, select

from iosfarm.db import tables
from iosfarm.db.measurements import usable
from iosfarm.db.query.transfer import Transfer
from iosfarm.db.rows import stage_ids
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Status

_d, _e, _m = tables.device.c, tables.environment.c, tables.measurement.c

RECENT = 2000
"""Measurements of the device that tell how long measuring takes."""

PAUSE = 30.0
"""Seconds between two measurements of a worker: more was no measuring."""


@dataclass(frozen=True)
class Forecast:
    """Device time in seconds that measuring takes: expected, and from low to high as the estimates of latencies go."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Coverage:
    """Of so many stages: measured, infeasible; only failed so far; and of all that lack a measurement, those estimated
    from other devices. forecast: of measuring what lacks, None where the device has measured nothing to judge by.
    """

    stages: int
    measured: int
    infeasible: int
    failed: int
    transferred: int
    missing: int
    forecast: Forecast | None


class Covering(Transfer):
    """The method of `LatencyDatabase` that tells what is lacking."""

    def coverage(
        self, keys: Iterable[str], device: Device, environment: Environment, *, confidence: float = 0.9
    ) -> Coverage:
        """How many of the stages have a usable measurement, and what measuring all others would take.

        A measurement takes its samples, as many as this device has needed for about that latency, and what this
        device's workers needed beside them; latencies that are unknown are transferred from other devices, or else
        taken to be as those that are known.
        """
        wanted = list(dict.fromkeys(keys))
        with self._transaction(write=False) as connection:
            found = usable(connection, wanted, device, environment, self.name)
            missing = [key for key in wanted if key not in found]
            failed = _failed(connection, missing, device, environment)
            costs = _costs(connection, device, environment)
        transferred = self.transferred(missing, device, environment, confidence=confidence)
        infeasible = sum(recorded.measurement.status is Status.INFEASIBLE for recorded in found.values())
        forecast = None
        if costs is not None:
            estimates = [
                (t.seconds, t.low, t.high) if (t := transferred.get(key)) else (None, None, None) for key in missing
            ]
            sums = [math.fsum(costs.of(latency) for latency in column) for column in zip(*estimates, strict=True)]
            forecast = Forecast(*(sums or [0.0, 0.0, 0.0]))
        return Coverage(
            stages=len(wanted),
            measured=len(found) - infeasible,
            infeasible=infeasible,
            failed=failed,
            transferred=len(transferred),
            missing=len(missing),
            forecast=forecast,
        )


@dataclass(frozen=True)
class _Costs:
    """What measuring has taken: seconds in samples by latency, in the order of latencies, and seconds beside them."""

    latencies: Sequence[float]
    sampling: Sequence[float]
    beside: float

    def of(self, latency: float | None) -> float:
        """Seconds to measure a stage of this latency; None: of any."""
        if latency is None:
            return self.beside + math.fsum(self.sampling) / len(self.sampling)
        # The median of the nearest few: single measurements needed more or fewer samples by chance.
        middle = bisect_left(self.latencies, latency)
        near = sorted(self.sampling[max(0, middle - 10) : middle + 10] or self.sampling[-10:])
        # Beyond what was ever measured, a sample lasts as long as the stage does.
        stretch = max(1.0, latency / self.latencies[-1])
        return self.beside + near[len(near) // 2] * stretch


def _costs(connection: Connection, device: Device, environment: Environment) -> _Costs | None:
    rows = connection.execute(
        select(_m.worker, _m.measured_at, _m.median, _m.samples, _m.unroll)
        .where(
            _m.device_id.in_(select(_d.id).where(_d.key == device.key)),
            _m.environment_id.in_(select(_e.id).where(_e.hard_key == environment.hard_key)),
            _m.status == Status.OK.value,
        )
        .order_by(_m.measured_at.desc())
        .limit(RECENT)
    ).all()
    if not rows:
        return None
    known = sorted((row.median, row.unroll * math.fsum(json.loads(row.samples))) for row in rows)
    times: dict[str, list[float]] = {}
    for row in rows:
        times.setdefault(row.worker, []).append(row.measured_at.timestamp())
    gaps = [a - b for moments in times.values() for a, b in pairwise(moments) if a - b < PAUSE]
    sampling = [seconds for _, seconds in known]
    beside = math.fsum(gaps) / len(gaps) - math.fsum(sampling) / len(sampling) if gaps else 0.0
    return _Costs([latency for latency, _ in known], sampling, max(beside, 0.0))


def _failed(connection: Connection, keys: Sequence[str], device: Device, environment: Environment) -> int:
    """How many of the stages, none of which has a usable measurement, have one that is not."""
    numbers = stage_ids(connection, keys)
    if not numbers:
        return 0
    tried = select(_m.stage_id).where(
        _m.status != Status.OK.value,
        _m.device_id.in_(select(_d.id).where(_d.key == device.key)),
        _m.environment_id.in_(select(_e.id).where(_e.hard_key == environment.hard_key)),
    )
    return len(set(connection.scalars(tried)) & set(numbers.values()))
