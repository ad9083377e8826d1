"""What is read of a GPU's state, with a stand-in for NVML's Python module."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from iosfarm.kernels.cuda.device import nvml


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("pynvml")

    def refuse(*_: object) -> None:
        raise RuntimeError("Not Supported")

    for name, value in {
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.95",
        "nvmlDeviceGetHandleByPciBusId": lambda bus: f"at {bus}",
        "nvmlDeviceGetUUID": lambda handle: f"GPU {handle}",
        "nvmlDeviceGetHandleByIndex": lambda index: f"by {index}",
        "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 1980, 2: 3201}[kind],
        "nvmlDeviceGetTemperature": lambda handle, kind: 41,
        "nvmlDeviceGetPowerUsage": lambda handle: 250_500,
        "nvmlDeviceGetEnforcedPowerLimit": refuse,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x4,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=1)],
    }.items():
        setattr(made, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_what_it_tells_and_what_it_refuses(library: ModuleType) -> None:
    assert nvml.driver_version() == "580.95"
    assert nvml.read("0000:01:00.0", 0) == {
        "frequency": 1_980_000_000,
        "memory_frequency": 3_201_000_000,
        "temperature": 41,
        "power": 250.5,
        "clock_reasons": 0x4,
        "other_processes": 1,
    }


@pytest.mark.parametrize(("reasons", "void"), [(0, False), (0x1, False), (0x4, False), (0x8, True), (0x44, True)])
def test_hardware_slowdown_voids_and_a_power_cap_does_not(library: ModuleType, reasons: int, void: bool) -> None:
    library.nvmlDeviceGetCurrentClocksEventReasons = lambda handle: reasons
    facts = nvml.read("", 0)
    assert facts["clock_reasons"] == reasons
    assert bool(nvml.voided(facts)) == void
    assert nvml.capped(facts) == bool(reasons & 0x4)


def test_a_board_is_found_by_its_place_and_else_by_its_number(library: ModuleType) -> None:
    assert nvml.uuid("0000:01:00.0", 3) == "GPU at 0000:01:00.0"
    assert nvml.uuid("", 3) == "GPU by 3"
    del library.nvmlDeviceGetHandleByPciBusId
    assert nvml.uuid("0000:01:00.0", 3) == "GPU by 3"
    del library.nvmlDeviceGetUUID
    assert nvml.uuid("0000:01:00.0", 3) == ""


def test_without_the_library_there_is_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.read("", 0) == {}
    assert nvml.uuid("", 0) == ""
    assert nvml.driver_version() == ""
    assert nvml.voided({}) == ""
