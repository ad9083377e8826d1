"""What the operating system tells of this machine's CPU. No torch: `doctor` and fingerprints ask here too."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from iosfarm.ir.device import Fact

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index2")


def allowed_cpus() -> tuple[int, ...]:
    """Numbers of the CPUs that this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota() -> float | None:
    """CPUs' worth of time that the control group grants, None where it sets no limit."""
    for directory in _own_groups("cpu"):
        maximum = _read(directory / "cpu.max").split()
        if len(maximum) == 2 and maximum[0].isdigit():
            return int(maximum[0]) / int(maximum[1])
        quota, period = _read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            return int(quota) / int(period)
    return None


def usable_cores() -> int:
    """How many cores to plan for: those allowed, or fewer where a quota grants less; at least one."""
    allowed, quota = len(allowed_cpus()), cpu_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def l2_bytes() -> int:
    """Bytes that one core's second-level cache holds; 2 MiB where the system does not tell."""
    text = _read(CACHE / "size")
    return int(text[:-1]) * 1024 if text.endswith("K") and text[:-1].isdigit() else 2**21


def total_memory() -> int:
    """Bytes that this process could ever have: the machine's memory or the control group's limit."""
    return min(_meminfo("MemTotal"), _memory_limit())


def available_memory() -> int:
    """Bytes that it can have now, as far as the system tells."""
    return min(_meminfo("MemAvailable"), max(0, _memory_limit() - _memory_used()))


def cpu_model() -> str:
    """The maker's name of the CPU; the architecture where there is none."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_facts() -> dict[str, Fact]:
    """What tells one CPU from another of the same name, and can change a latency: family, model, stepping."""
    facts: dict[str, Fact] = {"architecture": platform.machine()}
    for field, name in (("cpu family", "family"), ("model", "model_number"), ("stepping", "stepping")):
        if value := _cpuinfo(field):
            facts[name] = value
    return facts


def software_facts() -> dict[str, Fact]:
    """Kernel and microcode: they may change latencies a little."""
    facts: dict[str, Fact] = {"kernel": platform.release()}
    if value := _cpuinfo("microcode"):
        facts["microcode"] = value
    return facts


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cpuinfo(field: str) -> str:
    for line in _read(PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _meminfo(field: str) -> int:
    for line in _read(PROC / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    # Without /proc there is no saying what is free; the whole memory is the best guess.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_limit() -> int:
    return min(_group_numbers("memory.max", "memory.limit_in_bytes"), default=2**63)


def _memory_used() -> int:
    return next(iter(_group_numbers("memory.current", "memory.usage_in_bytes")), 0)


def _group_numbers(*names: str) -> list[int]:
    texts = [_read(directory / name) for directory in _own_groups("memory") for name in names]
    return [int(text) for text in texts if text.isdigit()]


def _own_groups(controller: str) -> list[Path]:
    """Where the limits of this process's control group can stand: version 2, then version 1, own group before root."""
    directories = []
    for line in _read(PROC / "self" / "cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[1] == "":
            directories += [CGROUPS / parts[2].lstrip("/"), CGROUPS]
        elif len(parts) == 3 and controller in parts[1].split(","):
            directories += [CGROUPS / controller / parts[2].lstrip("/"), CGROUPS / controller]
    return directories
