"""The CUDA runtime on a GPU, where there is one: the contract, with cuDNN and with our own convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance import RuntimeConformance, block, greedy
from numerics_cases import CASES, Case, graph_weights, random_inputs, relative_error

from iosfarm.ir.errors import UsageError
from iosfarm.kernels.cuda.device.probe import check, look
from iosfarm.kernels.cuda.program.forms import FORMS, TUNED
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_graph

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

    @pytest.mark.parametrize("form", [*FORMS, TUNED])
    def test_networks_in_every_form(self, runtime: CudaRuntime, form: str, rng: np.random.Generator) -> None:
        """Tensors in and out, and what ran when."""
        graph = block()
        weights = graph_weights(graph, rng)
        inputs = random_inputs([graph.shape(item.name) for item in graph.inputs], rng)
        expected = run_graph(graph, weights, inputs)
        with runtime.prepare_schedule(graph, replace(greedy(graph), form=form), weights) as whole:
            for outputs in (whole.run(*inputs), whole.run_tensors([torch.from_numpy(array) for array in inputs])):
                for actual, wanted in zip(outputs, expected, strict=True):
                    assert relative_error(np.asarray(actual), wanted) <= self.tolerance
            spans = whole.trace()
            assert all(0 <= span.begin <= span.end < 1 for span in spans)
            assert {span.stage for span in spans} <= set(range(len(greedy(graph).stages)))
            assert all(0 <= busy.share <= 1 for busy in whole.utilisation())


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
