"""What the machine tells of its state around a measurement: recorded with it, and judged by whoever reads it."""

from __future__ import annotations

import os
from pathlib import Path

from iosfarm.ir.device import Fact

CPU = Path("/sys/devices/system/cpu/cpu0")


def read_conditions() -> dict[str, Fact]:
    """Load of the machine, clock in Hz and number of thermal throttlings so far, as far as it tells."""
    conditions: dict[str, Fact] = {}
    if hasattr(os, "getloadavg"):
        conditions["load"] = round(os.getloadavg()[0], 2)
    frequency = _number(CPU / "cpufreq" / "scaling_cur_freq")
    if frequency is not None:
        conditions["frequency"] = frequency * 1000
    throttled = _number(CPU / "thermal_throttle" / "package_throttle_count")
    if throttled is not None:
        conditions["throttled"] = throttled
    return conditions


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
