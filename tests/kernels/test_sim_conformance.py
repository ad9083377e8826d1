"""The simulated devices are runtimes like any other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from iosfarm.kernels.runtime import Runtime
from iosfarm.kernels.sim.runtime import SimRuntime

from conformance import RuntimeConformance  # isort: skip - beside this file


class TestSim(RuntimeConformance):
    computes = False

    @pytest.fixture
    def runtime(self) -> Iterator[Runtime]:
        with closing(SimRuntime("h200")) as runtime:
            yield runtime
