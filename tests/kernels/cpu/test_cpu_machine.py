"""What is read of the machine, from files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from iosfarm.kernels.cpu import machine

GIB = 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(machine, "allowed_cpus", lambda: (0, 1, 2, 3))
    write(tmp_path / "proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 4)]
)
def test_quota_of_a_version_2_group_limits_the_cores(system: Path, limit: str, cores: int) -> None:
    write(system / "proc/self/cgroup", "0::/mine")
    write(system / "cgroup/mine/cpu.max", limit)
    assert machine.usable_cores() == cores


def test_quota_of_a_version_1_group_limits_the_cores(system: Path) -> None:
    write(system / "proc/self/cgroup", "3:cpu,cpuacct:/mine\n1:memory:/")
    write(system / "cgroup/cpu/mine/cpu.cfs_quota_us", "300000")
    write(system / "cgroup/cpu/mine/cpu.cfs_period_us", "100000")
    assert machine.usable_cores() == 3


def test_without_a_quota_all_cores_are_used(system: Path) -> None:
    assert machine.cpu_quota() is None
    assert machine.usable_cores() == 4


def test_memory_is_the_machines_or_the_groups(system: Path) -> None:
    assert machine.total_memory() == 8 * GIB
    assert machine.available_memory() == 4 * GIB
    write(system / "proc/self/cgroup", "0::/mine")
    write(system / "cgroup/mine/memory.max", str(2 * GIB))
    write(system / "cgroup/mine/memory.current", str(GIB))
    assert machine.total_memory() == 2 * GIB
    assert machine.available_memory() == GIB
    write(system / "cgroup/mine/memory.max", "max")
    assert machine.total_memory() == 8 * GIB


@pytest.mark.parametrize(("text", "size"), [("1280K", 1280 * 1024), ("", 2**21), ("strange", 2**21)])
def test_cache_size(system: Path, text: str, size: int) -> None:
    write(system / "cache/size", text)
    assert machine.l2_bytes() == size


def test_cpu_is_named_after_its_maker(system: Path) -> None:
    write(system / "proc/cpuinfo", "processor : 0\ncpu family\t: 6\nmodel name\t: Some CPU @ 2 GHz\nmicrocode\t: 0x1\n")
    assert machine.cpu_model() == "Some CPU @ 2 GHz"
    assert machine.cpu_facts()["family"] == "6"
    assert machine.software_facts()["microcode"] == "0x1"


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= machine.usable_cores() <= len(machine.allowed_cpus())
    assert 0 < machine.available_memory() <= machine.total_memory()
    assert machine.cpu_model()
