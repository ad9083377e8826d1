"""The CUDA runtime on a GPU, where there is one: the contract, with cuDNN and with our own convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from conformance import RuntimeConformance
from numerics_cases import CASES, Case

from iosfarm.ir.errors import UsageError
from iosfarm.kernels.cuda.probe import check, look
from iosfarm.kernels.cuda.runtime import CudaRuntime

try:
    check(look())
except UsageError as error:
    pytest.skip(f"no GPU to test: {error}", allow_module_level=True)


class OnGpu(RuntimeConformance):
    spec = "cuda"

    @pytest.fixture
    def runtime(self) -> Iterator[CudaRuntime]:
        with closing(CudaRuntime.from_spec(self.spec)) as runtime:
            yield runtime

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_operator(self, runtime: CudaRuntime, case: Case, rng: np.random.Generator) -> None:
        if case.kind == "opaque":
            pytest.skip("opaque operators have no CUDA kernel")
        super().test_operator(runtime, case, rng)


class TestCudnn(OnGpu):
    tolerance = 1e-5


class TestTf32(OnGpu):
    spec = "cuda?precision=tf32"
    tolerance = 2e-3


class TestOwnConvolutions(OnGpu):
    spec = "cuda?provider=iosfarm"
    tolerance = 1e-5


class TestTensorCores(OnGpu):
    spec = "cuda?provider=iosfarm&precision=tf32"
    tolerance = 2e-3


class TestColdInputs(OnGpu):
    spec = "cuda?inputs=cold"
    tolerance = 1e-5


class TestStreams(OnGpu):
    spec = "cuda?timing=streams"
    tolerance = 1e-5
