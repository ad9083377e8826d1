"""PyTorch's kernels captured once into a CUDA graph and launched as one."""

from __future__ import annotations

import torch

from iosfarm.compare.adapter import Prepared
from iosfarm.compare.adapters.torch_eager import arrays, module_and_inputs, profiled
from iosfarm.compare.problem import Problem

WARMUP = 3
"""Executions before the capture, as torch asks for: libraries choose their algorithms in them."""


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    module, inputs = module_and_inputs(problem)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _round in range(WARMUP):
            module(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        outputs = module(*inputs)

    def call() -> object:
        graph.replay()
        torch.cuda.synchronize()
        return outputs

    return Prepared(torch.__version__, call, arrays, lambda: profiled(call), "channels last")
