"""Exporting: a schedule's merged graph as files for other runtimes, which are read back and compared with float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from iosfarm.deploy.merging import merged_graph
from iosfarm.deploy.own_weights import weights_of
from iosfarm.deploy.schedules import given
from iosfarm.deploy.sources import Examples, source_of
from iosfarm.farm.output_files import check_folder
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels.reference import run_graph
from iosfarm.kernels.runtime import Array, Weights
from iosfarm.workers.evaluating import TOLERANCES, relative_error


@dataclass(frozen=True)
class Exported:
    """One format: the files, and the error of what they compute against float64 (None: not checked)."""

    format: str
    files: tuple[str, ...]
    error: float | None


@dataclass(frozen=True)
class ExportReport:
    """What was written. convolutions, exported_convolutions: how many there were, and how many are left by merging."""

    model: str
    convolutions: int
    exported_convolutions: int
    tolerance: float
    exports: tuple[Exported, ...]
    notes: tuple[str, ...]

    @property
    def numbers_are_right(self) -> bool:
        """True where every error that was looked at is within tolerance."""
        return all(export.error is None or export.error <= self.tolerance for export in self.exports)

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "numbers_are_right": self.numbers_are_right}


def export(
    model: object,
    schedule: Schedule | str | Path,
    *,
    onnx: str | Path | None = None,
    torch: str | Path | None = None,
    weights: Weights | str | Path | None = None,
    example_inputs: Examples | None = None,
    check: bool = True,
) -> ExportReport:
    """Write a model with a schedule's merges as real convolutions: as ONNX model, as torch program (`.pt2`), or both.

    model, schedule, weights, example_inputs: as `iosfarm.compile` takes them. check: run the files and compare them
    with float64; what comes out of it is in the report.

    Raises:
        UsageError: model, schedule and weights do not fit each other, or an operator or the dtype has no counterpart.
            OutputError: a file cannot be written.
    """
    source = source_of(model, weights, example_inputs)
    chosen, graph, _ = given(schedule, source.graph)
    onnx, torch = (None if path is None else Path(path) for path in (onnx, torch))
    return _exported(graph, chosen, source.weights, onnx, torch, 0 if check else None)


def export_schedule(
    path: Path, *, onnx: Path | None, torch: Path | None, weights: Path | None, seed: int, check: bool
) -> ExportReport:
    """As `export`, of a schedule file's own graph. seed: of random weights, where there are none, and of the check."""
    content, graph = load(path)
    values = weights_of(graph, content.model, weights, seed)
    report = _exported(graph, content.schedule(), values, onnx, torch, seed if check else None)
    if weights is None:
        note = f"random weights (seed {seed}): give the model's own with --weights"
        report = replace(report, notes=(note, *report.notes))
    return report


def _exported(
    graph: Graph, schedule: Schedule, weights: Weights, onnx: Path | None, torch: Path | None, seed: int | None
) -> ExportReport:
    """seed: of the inputs for the check; None: no check."""
    if onnx is None and torch is None:
        raise UsageError("nothing to export to", where=graph.name, hint="give --onnx FILE.onnx or --torch FILE.pt2")
    for target, option in ((onnx, "--onnx"), (torch, "--torch")):
        if target is not None:
            check_folder(target.parent, option)
    merged, values = merged_graph(graph, schedule, weights)
    inputs: list[Array] = []
    expected: list[Array] = []
    if seed is not None:
        generator = np.random.default_rng(seed)
        inputs = [generator.standard_normal(graph.shape(i.name)).astype(np.float32) for i in graph.inputs]
        expected = run_graph(graph, weights, inputs)
    exports, notes = [], []
    if any(len(stage.groups) > 1 and stage.strategy != "merge" for stage in schedule.stages):
        notes.append("these formats say nothing of streams: of the schedule they hold what it merges")
    if onnx is not None:
        from iosfarm.deploy.onnx_export import save_onnx, to_onnx

        files = save_onnx(to_onnx(merged, values), onnx)
        outputs = _run_onnx(onnx, graph, inputs) if inputs else None
        if inputs and outputs is None:
            notes.append("the ONNX model was not run: onnxruntime is not installed")
        error = None if outputs is None else relative_error(outputs, expected)
        exports.append(Exported("onnx", tuple(map(str, files)), error))
    if torch is not None:
        from iosfarm.deploy.torch_export import save_program

        save_program(merged, values, torch)
        error = relative_error(_run_torch(torch, graph, inputs), expected) if inputs else None
        exports.append(Exported("torch", (str(torch),), error))
    before, after = (sum(o.kind == "conv2d" for o in each.operators) for each in (graph, merged))
    return ExportReport(graph.name, before, after, TOLERANCES[graph.dtype], tuple(exports), tuple(notes))


def _run_onnx(path: Path, graph: Graph, inputs: Sequence[Array]) -> list[Array] | None:
    """Outputs of an ONNX file, None where there is nothing to run it with."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    dtype = np.dtype(graph.dtype)
    named = {item.name: array.astype(dtype) for item, array in zip(graph.inputs, inputs, strict=True)}
    return [output.astype(np.float32) for output in session.run(None, named)]


def _run_torch(path: Path, graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Outputs of an exported program's file."""
    import torch

    dtype = getattr(torch, graph.dtype)
    module = torch.export.load(path).module()
    with torch.inference_mode():
        outputs = module(*[torch.from_numpy(array).to(dtype) for array in inputs])
    return [output.float().numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
