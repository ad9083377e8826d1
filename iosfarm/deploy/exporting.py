"""Exporting a schedule file: the merged graph as files for other runtimes, read back and compared with float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from iosfarm.deploy.merging import merged_graph
from iosfarm.farm.schedule_file import check_folder, load
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import ScheduledStage
from iosfarm.kernels.reference import run_graph
from iosfarm.kernels.runtime import Array
from iosfarm.workers.evaluating import TOLERANCES, relative_error
from iosfarm.zoo.weights import load_weights, random_weights


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


def export_schedule(
    path: Path, *, onnx: Path | None, torch: Path | None, weights: Path | None, seed: int, check: bool
) -> ExportReport:
    """Write a schedule file's graph, with its merges as real convolutions, as ONNX model, as torch program, or both.

    Raises:
        UsageError: the file or the weights do not fit, or an operator or dtype has no counterpart. OutputError.
    """
    if onnx is None and torch is None:
        raise UsageError("nothing to export to", where=str(path), hint="give --onnx FILE.onnx or --torch FILE.pt2")
    content, graph = load(path)
    for target, option in ((onnx, "--onnx"), (torch, "--torch")):
        if target is not None:
            check_folder(target.parent, option)
    given = random_weights(graph, seed) if weights is None else load_weights(graph, weights)
    merged, values = merged_graph(graph, content.schedule(), given)
    inputs: list[Array] = []
    expected: list[Array] = []
    if check:
        generator = np.random.default_rng(seed)
        inputs = [generator.standard_normal(graph.shape(i.name)).astype(np.float32) for i in graph.inputs]
        expected = run_graph(graph, given, inputs)
    exports, notes = [], _notes(content.schedule().stages, weights is None, seed)
    if onnx is not None:
        from iosfarm.deploy.onnx_export import save_onnx, to_onnx

        files = save_onnx(to_onnx(merged, values), onnx)
        outputs = _run_onnx(onnx, graph, inputs) if check else None
        if check and outputs is None:
            notes.append("the ONNX model was not run: onnxruntime is not installed")
        error = None if outputs is None else relative_error(outputs, expected)
        exports.append(Exported("onnx", tuple(map(str, files)), error))
    if torch is not None:
        from iosfarm.deploy.torch_export import save_program

        save_program(merged, values, torch)
        error = relative_error(_run_torch(torch, graph, inputs), expected) if check else None
        exports.append(Exported("torch", (str(torch),), error))
    before, after = (sum(o.kind == "conv2d" for o in each.operators) for each in (graph, merged))
    return ExportReport(content.model, before, after, TOLERANCES[graph.dtype], tuple(exports), tuple(notes))


def _notes(stages: Sequence[ScheduledStage], random: bool, seed: int) -> list[str]:
    """What a user has to know of the files."""
    notes = [f"random weights (seed {seed}): give the model's own with --weights"] if random else []
    if any(len(stage.groups) > 1 and stage.strategy != "merge" for stage in stages):
        notes.append("these formats say nothing of streams: of the schedule they hold what it merges")
    return notes


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
