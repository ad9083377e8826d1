"""OpenVINO on a CPU, from our ONNX export, tuned for the latency of one request."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from iosfarm.compare.adapter import Prepared
from iosfarm.compare.problem import Array, Problem
from iosfarm.compare.rows import Profile

PROFILED = 5
"""Executions under the profiler, after one that is left out."""

_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_KINDS = {"Convolution": "convolution", "GroupConvolution": "convolution", "MaxPool": "pool", "AvgPool": "pool"}


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": problem.threads,
        "INFERENCE_PRECISION_HINT": _TYPES[problem.graph.dtype],  # else it takes bfloat16 where the CPU has it
    }
    core = openvino.Core()
    dtype = np.dtype(problem.graph.dtype)
    inputs = [openvino.Tensor(np.ascontiguousarray(array.astype(dtype))) for array in problem.inputs]
    request = _request(core, problem, inputs, settings)
    count = len(problem.graph.outputs)

    def call() -> object:
        request.infer()
        return request

    def outputs(_: object) -> list[Array]:
        return [np.array(request.get_output_tensor(number).data) for number in range(count)]

    def profile() -> Profile:
        return _profiled(_request(core, problem, inputs, {**settings, "PERF_COUNT": True}))

    return Prepared(openvino.__version__.split("-")[0], call, outputs, profile)


def _request(core: Any, problem: Problem, inputs: list[Any], settings: dict[str, Any]) -> Any:
    request = core.compile_model(str(problem.onnx), "CPU", settings).create_infer_request()
    for number, tensor in enumerate(inputs):
        request.set_input_tensor(number, tensor)
    return request


def _profiled(request: Any) -> Profile:
    seconds: dict[str, float] = {}
    kernels = 0
    request.infer()
    for _ in range(PROFILED):
        request.infer()
        executed = [node for node in request.get_profiling_info() if str(node.status).endswith("EXECUTED")]
        kernels = len(executed)
        for node in executed:
            kind = _KINDS.get(node.node_type, str(node.node_type).lower())
            seconds[kind] = seconds.get(kind, 0.0) + node.real_time.total_seconds() / PROFILED
    return Profile("OpenVINO's counters", kernels, seconds)
