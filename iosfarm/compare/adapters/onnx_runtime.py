"""ONNX Runtime on our ONNX export, all of its graph optimisations on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from iosfarm.compare.adapter import CannotRun, Prepared, as_arrays, as_sequence
from iosfarm.compare.problem import Array, Problem
from iosfarm.compare.rows import Profile

PROFILED = 5
"""Executions under the profiler, after one that is left out."""

_KINDS = (("conv", "convolution"), ("pool", "pool"), ("concat", "concat"), ("gemm", "linear"), ("reorder", "layout"))


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    return session_on(problem, problem.onnx, onnxruntime.__version__)


def session_on(problem: Problem, model: Path, version: str) -> Prepared:
    """An ONNX model of the problem's network, ready to run."""
    provider = "CUDAExecutionProvider" if problem.device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise CannotRun(f"this onnxruntime has no {provider}: pip install onnxruntime-gpu")
    session = _session(model, problem.threads, provider)
    names = [item.name for item in session.get_inputs()]
    dtype = np.dtype(problem.graph.dtype)
    inputs = {name: array.astype(dtype) for name, array in zip(names, problem.inputs, strict=True)}

    def profile() -> Profile:
        beside = problem.folder / "onnxruntime-profile"
        return _profiled(_session(model, problem.threads, provider, beside), inputs)

    if problem.device == "cuda":
        return Prepared(version, bound(session, inputs, "cuda"), fetched, profile)
    return Prepared(version, lambda: session.run(None, inputs), as_arrays, profile)


def bound(session: onnxruntime.InferenceSession, inputs: dict[str, Array], device: str) -> Callable[[], object]:
    """Executes on inputs that are on the device already, and leaves outputs there: `run` would copy both each time."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, device)

    def call() -> object:
        session.run_with_iobinding(binding)
        return binding.get_outputs()

    return call


def fetched(outputs: object) -> list[Array]:
    """Outputs of `bound` as NumPy arrays."""
    return [output.numpy() for output in as_sequence(outputs) if isinstance(output, onnxruntime.OrtValue)]


def _session(model: Path, threads: int, provider: str, profile: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if provider == "CUDAExecutionProvider":
        providers: list[object] = [(provider, {"use_tf32": 0})]  # the same precision for all
    else:
        providers = [provider]
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(str(model), options, providers=providers)


def _profiled(session: onnxruntime.InferenceSession, inputs: dict[str, Array]) -> Profile:
    for _ in range(1 + PROFILED):
        session.run(None, inputs)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    per_run = len(kernels) // (1 + PROFILED)
    seconds: dict[str, float] = {}
    for event in kernels[per_run:]:
        name = str(event["args"]["op_name"]).lower()
        kind = next((kind for word, kind in _KINDS if word in name), name)
        seconds[kind] = seconds.get(kind, 0.0) + event["dur"] / 1e6 / PROFILED
    return Profile("onnxruntime's profile", per_run, seconds)
