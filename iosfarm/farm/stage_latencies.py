"""Latencies of given stages on a device: from the latency database, measured and recorded where it has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from iosfarm.farm.api import open_executor
from iosfarm.farm.executors.executor import DeviceInfo, MeasureTask
from iosfarm.ir.errors import IosfarmError
from iosfarm.ir.measurement import Measurement
from iosfarm.ir.stage import Stage

if TYPE_CHECKING:
    from iosfarm.db import LatencyDatabase

CHUNK = 32
"""Stages measured in one task: between two of them an interrupt is seen."""


def measured(
    stages: Mapping[str, Stage],
    info: DeviceInfo,
    database: str | None,
    check: Callable[[], None] = lambda: None,
) -> Mapping[str, Measurement]:
    """A measurement for each stage, by key. check: called between chunks; it may raise to stop, and nothing is lost.

    Raises:
        IosfarmError: the device failed as a whole. DatabaseError.
    """
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(database) as memory:
        recorded = memory.lookup(stages, info.device, info.environment)
        known = {key: item.measurement for key, item in recorded.items()}
        missing = [stage for key, stage in stages.items() if key not in known]
        if missing:
            known.update(_measure(missing, info, memory, check))
    return known


def _measure(
    missing: list[Stage], info: DeviceInfo, memory: LatencyDatabase, check: Callable[[], None]
) -> dict[str, Measurement]:
    made: dict[str, Measurement] = {}
    with open_executor("inline") as executor:
        executor.open(info.spec)
        for start in range(0, len(missing), CHUNK):
            check()
            stages = missing[start : start + CHUNK]
            executor.submit(info.spec, MeasureTask(tuple(stage.canonical for stage in stages)))
            (outcome,) = executor.wait(0.0)
            if outcome.error:
                raise IosfarmError(outcome.error, where=info.spec)
            found = list(outcome.measurements)
            pairs = [(stage.summary, item) for stage, item in zip(stages, found, strict=True)]
            memory.record(pairs, info.device, info.environment)
            made.update({item.stage_key: item for item in found})
    return made
