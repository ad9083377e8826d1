"""What NVIDIA's management library tells of a GPU around a measurement. It only looks: no clock is ever set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from iosfarm.ir.device import Fact

HARDWARE_SLOWDOWN = 0x8 | 0x40 | 0x80
"""Clock event reasons: hardware slowdown, its thermal kind, its power brake. What was measured meanwhile is void."""
POWER_CAP = 0x4 | 0x20
"""Software power cap and software thermal slowdown: slower than it could be, and worth telling."""


def driver_version() -> str:
    """NVIDIA's number of the driver, empty where NVML does not tell."""
    library = _library()
    if library is None:
        return ""
    with suppress(Exception):
        return str(_text(library.nvmlSystemGetDriverVersion()))
    return ""


def uuid(bus: str, index: int) -> str:
    """Of a board, empty where NVML does not tell; see `read`."""
    library = _library()
    handle = None if library is None else _handle(library, bus, index)
    with suppress(Exception):
        return str(_text(library.nvmlDeviceGetUUID(handle))) if handle is not None else ""
    return ""


def read(bus: str, index: int) -> dict[str, Fact]:
    """Clocks in Hz, temperature in °C, power in W, clock event reasons (a bit set) and other processes on the GPU, as
    far as it tells. bus: where the board is, as CUDA writes it; index: where NVML does not know the bus.
    """
    library = _library()
    if library is None:
        return {}
    handle = _handle(library, bus, index)
    if handle is None:
        return {}
    facts: dict[str, Fact] = {}
    for name, ask in (
        ("frequency", lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM) * 10**6),
        ("memory_frequency", lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_MEM) * 10**6),
        ("temperature", lambda: library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU)),
        ("power", lambda: library.nvmlDeviceGetPowerUsage(handle) / 1000),
        ("power_limit", lambda: library.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
        ("clock_reasons", lambda: int(_reasons(library, handle))),
        ("other_processes", lambda: _others(library, handle)),
    ):
        # A board, a driver or a container may refuse any one of these.
        with suppress(Exception):
            facts[name] = ask()
    return facts


def voided(facts: Mapping[str, Fact]) -> str:
    """Why what was measured in this state does not count; empty where it does."""
    reasons = facts.get("clock_reasons")
    if isinstance(reasons, int) and reasons & HARDWARE_SLOWDOWN:
        return f"the hardware slowed itself down (clock event reasons {reasons:#x})"
    return ""


def capped(facts: Mapping[str, Fact]) -> bool:
    """Whether a limit of power or temperature made the device slower than it could be: it counts, and is told."""
    reasons = facts.get("clock_reasons")
    return isinstance(reasons, int) and bool(reasons & POWER_CAP)


def _reasons(library: Any, handle: Any) -> int:
    ask = getattr(library, "nvmlDeviceGetCurrentClocksEventReasons", None)
    ask = ask or library.nvmlDeviceGetCurrentClocksThrottleReasons  # its name before driver 535
    return int(ask(handle))


def _others(library: Any, handle: Any) -> int:
    return sum(1 for p in library.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid != os.getpid())


def _library() -> Any:
    """pynvml, started; None where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, another driver's library: there is no state to read then
        return None
    return pynvml


def _handle(library: Any, bus: str, index: int) -> Any:
    # CUDA numbers the devices that CUDA_VISIBLE_DEVICES leaves, the fastest first; NVML all, as they sit on the bus.
    if bus:
        with suppress(Exception):
            return library.nvmlDeviceGetHandleByPciBusId(bus)
    with suppress(Exception):
        return library.nvmlDeviceGetHandleByIndex(index)
    return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
