"""iosfarm's own rows: the schedule that a search has found, one unit at a time, and a graph after substitutions."""

from __future__ import annotations

import json
from contextlib import suppress

import torch

from iosfarm.compare.adapter import Prepared, as_sequence
from iosfarm.compare.own import SCHEDULE, SUBSTITUTED, read_schedule
from iosfarm.compare.problem import Array, Problem
from iosfarm.compare.rows import Profile
from iosfarm.deploy.compiling import compile
from iosfarm.deploy.model import CompiledModel
from iosfarm.ir.errors import UsageError
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels import open_runtime
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut

PROFILED = 3
"""Traced executions."""


def prepare(problem: Problem, variant: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    own = Problem(problem.folder / SUBSTITUTED) if variant == "taso_style" else problem
    graph = own.graph
    if variant == "ios":
        document = json.loads((problem.folder / SCHEDULE).read_text(encoding="utf-8"))
        schedule = read_schedule(document)
        note = str(document["note"])
    else:
        schedule = sequential(graph, cut(graph), _layout(problem.device))
        note = str(own.settings.get("note", ""))
    model = compile(graph, schedule, device=problem.device, weights=own.weights)
    dtype = getattr(torch, graph.dtype)
    inputs = [torch.from_numpy(array).to(dtype) for array in problem.inputs]
    inputs = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs]
    # On a GPU nothing is copied from or to the host, as in the rows of the others.
    call, tensors = model.repeater(inputs)
    return Prepared(
        _version(), call, lambda outputs: _arrays(tensors(outputs)), lambda: _profiled(model, schedule), note
    )


def _layout(device: str) -> str:
    runtime = open_runtime(device)
    try:
        return runtime.layout
    finally:
        runtime.close()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    with suppress(PackageNotFoundError):
        return version("iosfarm")
    return ""


def _arrays(outputs: object) -> list[Array]:
    return [output.float().numpy() for output in as_sequence(outputs) if isinstance(output, torch.Tensor)]


def _profiled(model: CompiledModel, schedule: Schedule) -> Profile:
    """Busy seconds of streams by the unit's main operator, from traces; what groups do side by side adds up."""
    kinds = {
        unit.name: _main([model.graph.operator(name).kind for name in unit.operators]) for unit in model.graph.units
    }
    launched = sum(len(unit.operators) for unit in model.graph.units)
    merged = sum(len(stage.groups) - 1 for stage in schedule.stages if stage.strategy == "merge")
    seconds: dict[str, float] = {}
    try:
        for _ in range(PROFILED):
            for span in model.trace():
                if span.stream is not None:
                    kind = kinds[span.units[0]]
                    seconds[kind] = seconds.get(kind, 0.0) + (span.end - span.begin) / PROFILED
    except UsageError:
        return Profile("the schedule", launched - merged)
    return Profile("iosfarm's trace", launched - merged, seconds)


def _main(kinds: list[str]) -> str:
    if any(kind.startswith("conv") for kind in kinds):
        return "convolution"
    return "pool" if "pool" in kinds[-1] else kinds[-1]
