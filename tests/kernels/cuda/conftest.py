"""A runtime on the CPU that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from host_gpu import HostGpu
from host_runtime import host_runtime

from iosfarm.kernels.cuda.runtime import CudaRuntime


@pytest.fixture
def gpu() -> HostGpu:
    return HostGpu()


@pytest.fixture
def runtime(gpu: HostGpu) -> Iterator[CudaRuntime]:
    with closing(host_runtime(gpu)) as runtime:
        yield runtime
