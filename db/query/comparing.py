"""Two devices side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from iosfarm.db import tables
from iosfarm.db.connection.handle import Handle
from iosfarm.db.query.pairs import Known, device_keys, medians, stage_classes, stages_measured
from iosfarm.ir.device import Device
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import percentile

_d = tables.device.c


@dataclass(frozen=True)
class ClassRatio:
    """How long stages of a class take on the second device, relative to the first: median and percentiles."""

    operators: str
    stages: int
    median: float
    p10: float
    p90: float


@dataclass(frozen=True)
class Comparison:
    """Ratios of latencies, second over first: below 1 the second is faster. all: None where there is nothing in common.

    environments: hard keys of the environments that are compared, the ones that most of the stages have in common.
    """

    first: str
    second: str
    simulated: tuple[bool, bool]
    environments: tuple[str, str] | None
    all: ClassRatio | None
    classes: tuple[ClassRatio, ...]


class Comparing(Handle):
    """The method of `LatencyDatabase` that compares devices."""

    def compare(self, first: str | Device, second: str | Device) -> Comparison:
        """How latencies on two devices relate, for each class of operators, over the stages that both have measured.

        It rests on the 20,000 stages that the first measured last, if there are more.

        Raises:
            DatabaseError: no such device, or several kinds of that name. UsageError: twice the same device.
        """
        with self._transaction(write=False) as connection:
            keys = [device_keys(connection, device, self.name) for device in (first, second)]
            if keys[0] == keys[1]:
                raise UsageError("a device cannot be compared with itself", hint="name two devices")
            return _compare(connection, keys[0], keys[1])


def _compare(connection: Connection, first: str, second: str) -> Comparison:
    rows = {row.key: row for row in connection.execute(select(_d.key, _d.model, _d.simulated))}
    ids = {key: connection.scalars(select(_d.id).where(_d.key == key)).all() for key in (first, second)}
    shared = stages_measured(connection, [tables.measurement.c.device_id.in_(ids[first])], ids[second])
    known = medians(connection, shared)
    best: dict[int, tuple[Known, Known]] = {}
    environments = None
    for place, here in known.items():
        for other, there in known.items():
            if place.device_key == first and other.device_key == second:
                both = {number: (here[number], there[number]) for number in here.keys() & there.keys()}
                if len(both) > len(best):
                    best, environments = both, (place.hard_key, other.hard_key)
    classes = stage_classes(connection, best)
    ratios: dict[str, list[float]] = {}
    for number, (a, b) in best.items():
        ratios.setdefault(classes[number], []).append(b.median / a.median)
    every = [ratio for found in ratios.values() for ratio in found]
    summaries = sorted(
        (_summary(name, found) for name, found in ratios.items()), key=lambda c: (-c.stages, c.operators)
    )
    return Comparison(
        first=rows[first].model,
        second=rows[second].model,
        simulated=(rows[first].simulated, rows[second].simulated),
        environments=environments,
        all=_summary("all", every) if every else None,
        classes=tuple(summaries),
    )


def _summary(name: str, ratios: Sequence[float]) -> ClassRatio:
    median, p10, p90 = (percentile(ratios, share) for share in (0.5, 0.1, 0.9))
    return ClassRatio(name, len(ratios), median, p10, p90)
