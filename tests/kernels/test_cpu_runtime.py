"""The CPU runtime against the contract, and what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from iosfarm.kernels.cpu.runtime import CpuRuntime

from conformance import RuntimeConformance  # isort: skip - beside this file


class TestCpuRuntime(RuntimeConformance):
    @pytest.fixture
    def runtime(self) -> Iterator[CpuRuntime]:
        with closing(CpuRuntime()) as runtime:
            yield runtime


class TestCpuRuntimeOnFourThreads(RuntimeConformance):
    """Groups get two threads each, whatever the machine has: the other way of forking."""

    @pytest.fixture
    def runtime(self) -> Iterator[CpuRuntime]:
        with closing(CpuRuntime(threads=4)) as runtime:
            yield runtime
