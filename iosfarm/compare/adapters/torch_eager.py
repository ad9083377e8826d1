"""PyTorch, operator after operator, in channels last (which is faster than its default on CPUs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iosfarm.compare.adapter import CannotRun, Prepared, as_sequence
from iosfarm.compare.problem import Array, Problem
from iosfarm.compare.rows import Profile

PROFILED = 3
"""Executions under the profiler."""


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    module, inputs = module_and_inputs(problem)
    call = caller(module, inputs)
    return Prepared(torch.__version__, call, arrays, lambda: profiled(call), "channels last")


def module_and_inputs(problem: Problem) -> tuple[torch.nn.Module, list[Tensor]]:
    """The network as a module, and its inputs, on the device."""
    from iosfarm.deploy.torch_export import to_module

    torch.set_num_threads(problem.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # the same precision for all
    if problem.device == "cuda":
        if not torch.cuda.is_available():
            raise CannotRun(f"torch {torch.__version__} has no CUDA here")
        torch.backends.cudnn.benchmark = True
    dtype = getattr(torch, problem.graph.dtype)
    module = to_module(problem.graph, problem.weights).to(problem.device, dtype)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = []
    for array in problem.inputs:
        tensor = torch.from_numpy(array).to(problem.device, dtype)
        inputs.append(tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor)
    return module, inputs


def caller(module: Callable[..., Any], inputs: list[Tensor]) -> Callable[[], object]:
    """A function that runs a module and waits for it."""

    def call() -> object:
        with torch.inference_mode():
            result: object = module(*inputs)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        return result

    return call


def arrays(outputs: object) -> list[Array]:
    """torch's outputs as NumPy arrays."""
    return [output.float().cpu().numpy() for output in as_sequence(outputs) if isinstance(output, Tensor)]


def profiled(call: Callable[[], object]) -> Profile:
    """Self time of operators by torch.profiler; on a GPU, of kernels."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as found:
        for _ in range(PROFILED):
            call()
    seconds: dict[str, float] = {}
    kernels = 0
    for event in found.key_averages():
        on_device = torch.cuda.is_available()
        spent = (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6 / PROFILED
        if spent <= 0:
            continue
        kind = _kind(event.key)
        seconds[kind] = seconds.get(kind, 0.0) + spent
        if on_device or _computes(event.key):
            kernels += event.count
    return Profile("torch.profiler", round(kernels / PROFILED), seconds)


def _kind(name: str) -> str:
    lower = name.lower()
    for word, kind in _KINDS:
        if word in lower:
            return kind
    return "other"


_KINDS = (
    ("conv", "convolution"), ("cudnn", "convolution"), ("implicit", "convolution"), ("pool", "pool"), ("cat", "concat"),
    ("addmm", "linear"), ("mkl", "linear"), ("add", "add"), ("relu", "activation"), ("clamp", "activation"),
)  # fmt: skip

_LEAVES = (
    "aten::mkldnn_convolution", "mkldnn::", "aten::clamp", "aten::max_pool2d_with_indices", "aten::avg_pool2d",
    "aten::mean", "aten::cat", "aten::add", "aten::addmm", "aten::relu", "cpp_fused", "graph_",
    "aten::convolution_overrideable", "aten::thnn_conv2d", "aten::_conv_depthwise2d", "aten::_adaptive_avg_pool2d",
)  # fmt: skip


def _computes(name: str) -> bool:
    """Whether an event of a CPU is work, and not the dispatch of work."""
    return name.startswith(_LEAVES) and name != "aten::relu"  # relu is aten::clamp_min inside
