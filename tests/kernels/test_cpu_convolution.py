"""Packed convolutions compute what torch's do, on any number of threads, and leave to torch what they cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from iosfarm.ir.operators import ACTIVATIONS
from iosfarm.kernels.cpu import convolution
from iosfarm.kernels.cpu.convolution import packed_convolution
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.cpu.streams import intra_op_threads
from iosfarm.kernels.torch_operators import bind

from numerics_cases import CASES, Case, graph_weights  # isort: skip - beside this file

CONVOLUTIONS = [case for case in CASES if case.kind == "conv2d"]


def example(case: Case) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The weights of a case and an input, channels last."""
    graph, rng = case.graph(), np.random.default_rng(6)
    (operator,) = graph.operators
    values = graph_weights(graph, rng)
    weights = {name: torch.from_numpy(values[f"{operator.name}.{name}"]) for name in graph.parameters(operator)}
    x = torch.from_numpy(rng.standard_normal(graph.shape(graph.inputs[0].name), dtype=np.float32))
    return weights, x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: case.name)
def test_packed_and_plain_are_the_same(case: Case) -> None:
    (operator,) = case.graph().operators
    weights, x = example(case)
    expected = bind("conv2d", operator.attributes, weights)(x)
    for threads in (1, 2):
        with intra_op_threads(threads), torch.inference_mode():
            function = packed_convolution(operator.attributes, weights, tuple(x.shape))
            assert (function is None) == (operator.attributes["activation"] == "gelu")
            if function is not None:
                assert torch.allclose(function(x), expected, rtol=1e-4, atol=1e-5)


def test_weights_are_copied() -> None:
    weights, x = example(CONVOLUTIONS[1])
    (operator,) = CONVOLUTIONS[1].graph().operators
    with torch.inference_mode():
        function = packed_convolution(operator.attributes, weights, tuple(x.shape))
        assert function is not None
        before = function(x)
        weights["weight"].zero_()
        assert torch.equal(function(x), before)


@pytest.mark.parametrize("without", ["other dtypes", "oneDNN"])
def test_what_is_left_to_torch(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (operator,) = CONVOLUTIONS[1].graph().operators
    weights, x = example(CONVOLUTIONS[1])
    if without == "oneDNN":
        monkeypatch.setattr(convolution, "_available", lambda: False)
    else:
        weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
    assert packed_convolution(operator.attributes, weights, tuple(x.shape)) is None


def test_every_activation_is_fused_or_left_to_torch() -> None:
    assert set(convolution._FUSED) <= {"none", *ACTIVATIONS}


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with intra_op_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    runtime = CpuRuntime()
    graph = CONVOLUTIONS[0].graph()
    with runtime.prepare(CONVOLUTIONS[0].stage(runtime.layout)) as executable:
        assert len(executable.run()) == len(graph.outputs)
    runtime.close()
    assert torch.get_num_threads() == before
