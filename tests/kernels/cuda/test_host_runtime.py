"""The CUDA runtime against the contract, with its kernels on the host: capture, order, memory, numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from conformance import RuntimeConformance
from host_gpu import HostGpu
from host_kernels import needs_compiler
from host_runtime import host_runtime
from numerics_cases import CASES, Case

from iosfarm.ir.errors import Infeasible
from iosfarm.kernels.cuda.runtime import CudaRuntime


@needs_compiler
class TestCudaOnTheHost(RuntimeConformance):
    tolerance = 1e-5

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_operator(self, runtime: CudaRuntime, case: Case, rng: np.random.Generator) -> None:
        """What is not computed is refused: never a wrong number."""
        if case.kind == "opaque":
            with pytest.raises(Infeasible, match="opaque: there is no CUDA kernel"):
                runtime.prepare(case.stage(runtime.layout))
            return
        super().test_operator(runtime, case, rng)

    @pytest.fixture
    def runtime(self) -> Iterator[CudaRuntime]:
        gpu = HostGpu()
        with closing(host_runtime(gpu)) as runtime:
            yield runtime
        assert gpu.in_use == 0
