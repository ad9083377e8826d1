"""The CUDA runtime against the contract, with its kernels on the host: capture, order, memory, numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from conformance import RuntimeConformance
from host_gpu import HostGpu
from host_kernels import needs_compiler
from host_runtime import host_runtime

from iosfarm.kernels.cuda.runtime import CudaRuntime


@needs_compiler
class TestCudaOnTheHost(RuntimeConformance):
    tolerance = 1e-5

    @pytest.fixture
    def runtime(self) -> Iterator[CudaRuntime]:
        gpu = HostGpu()
        with closing(host_runtime(gpu)) as runtime:
            yield runtime
        assert gpu.in_use == 0
