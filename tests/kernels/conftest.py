"""Collects what the CUDA kernels' compilations took, and prints it at the end of a run."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nvrtc import Resources

_REPORT = pytest.StashKey["list[tuple[str, str, Resources]]"]()


@pytest.fixture
def kernel_report(request: pytest.FixtureRequest) -> list[tuple[str, str, Resources]]:
    """(architecture, source, resources) of each kernel that a test compiled: add to it."""
    return request.config.stash.setdefault(_REPORT, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each kernel: the most that any compilation of it took."""
    report = config.stash.get(_REPORT, [])
    if not report:
        return
    architectures = sorted({architecture for architecture, _, _ in report})
    most: dict[tuple[str, str], dict[str, Resources]] = defaultdict(dict)
    spilled = 0
    for architecture, source, taken in report:
        seen = most[source, taken.kernel].get(architecture)
        if seen is None or taken.registers > seen.registers:
            most[source, taken.kernel][architecture] = taken
        spilled += taken.spilled
    terminalreporter.section("CUDA kernels: most registers of a thread, shared memory of a block")
    for (source, kernel), of in sorted(most.items()):
        registers = "  ".join(f"{name} {of[name].registers:3}" for name in architectures if name in of)
        shared = max(taken.shared for taken in of.values())
        terminalreporter.write_line(f"{source:25} {kernel:22} {registers}  {shared:6} bytes")
    terminalreporter.write_line(f"{len(report)} kernels compiled, {spilled} bytes spilled")
