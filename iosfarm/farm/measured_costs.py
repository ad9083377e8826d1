"""Measured latencies of single units, as `iosfarm.search.substitutions` asks for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from iosfarm.farm.api import open_executor
from iosfarm.farm.stage_latencies import measured
from iosfarm.ir.errors import IosfarmError
from iosfarm.ir.measurement import Status
from iosfarm.ir.stage import Stage


class MeasuredCosts:
    """Seconds of stages on a device; what the latency database lacks is measured and recorded.

    Raises:
        UsageError: there is no such device here.
    """

    def __init__(self, device: str, database: str | None = None, check: Callable[[], None] = lambda: None) -> None:
        with open_executor("inline") as executor:
            (self._info,) = executor.open(device)
        self._database = database
        self._check = check

    @property
    def layout(self) -> str:
        """The memory layout that stages have on the device."""
        return self._info.layout

    def __call__(self, stages: Mapping[str, Stage]) -> Mapping[str, float]:
        """Seconds by key; infinite for a stage that cannot run there.

        Raises:
            IosfarmError: one could not be measured. What `check` raises between two batches of measurements.
        """
        found = measured(stages, self._info, self._database, self._check)
        for key, item in found.items():
            if not item.ok and item.status is not Status.INFEASIBLE:
                raise IosfarmError(f"{item.status}: {item.reason}", where=stages[key].describe())
        return {key: item.median if item.ok else math.inf for key, item in found.items()}
