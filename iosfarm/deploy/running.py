"""Executing a schedule file: numbers and latencies beside the baselines'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from iosfarm.deploy import runtimes
from iosfarm.deploy.compiling import compile
from iosfarm.deploy.model import CompiledModel
from iosfarm.deploy.own_weights import weights_of
from iosfarm.deploy.trace import save_trace, trace_document
from iosfarm.farm.output_files import check_folder
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.ir.schedule import Schedule
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.beside import little_to_win
from iosfarm.search.parts import cut
from iosfarm.workers.evaluating import EvaluationSettings, evaluate, tolerance


@dataclass(frozen=True)
class RunRow:
    """One schedule: seconds, samples' spread, speed-up over the sequential one, error against float64."""

    name: str
    stages: int
    measured: float
    mad: float
    predicted: float | None
    speedup: float
    error: float | None


@dataclass(frozen=True)
class RunReport:
    """What a run showed."""

    title: str
    device: str
    simulated: bool
    tolerance: float
    rows: tuple[RunRow, ...]
    notes: tuple[str, ...]
    trace: str | None = None

    @property
    def numbers_are_right(self) -> bool:
        """True where every error that was looked at is within tolerance."""
        return all(row.error is None or row.error <= self.tolerance for row in self.rows)

    @property
    def worst(self) -> str:
        """One line about the largest error."""
        row = max(self.rows, key=lambda r: r.error or 0.0)
        return f"{row.name} is off by {row.error:.1e} of the largest number, more than {self.tolerance:.0e}"

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "numbers_are_right": self.numbers_are_right}


def run_schedule(
    path: Path,
    *,
    device: str | None,
    weights: Path | None,
    seed: int,
    rounds: int,
    check: bool,
    trace: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> RunReport:
    """Run a schedule file's schedule, and sequential and greedy, on a device (default: the kind that it is for).

    trace: where to write what ran when in an execution of the file's schedule, see `iosfarm.deploy.trace`. tell: called
    before anything runs, with a line about a network with little to win.

    Raises:
        UsageError: the file or the weights do not fit, there is no such device, or it cannot be traced. OutputError.
    """
    from iosfarm.farm.api import resolve_device

    content, graph = load(path)
    if trace is not None:
        check_folder(trace.parent, "--trace")
    spec = resolve_device(device or content.device.spec)
    values = weights_of(graph, content.model, weights, seed)
    parts = cut(graph, max_part_size=content.settings.max_part_size)
    if little := little_to_win(parts):
        tell(f"{content.model}: {little}")

    def compiled(schedule: Schedule) -> CompiledModel:
        return compile(graph, schedule, device=spec, weights=values)

    shared = runtimes.acquire(spec)  # held, so that the models come and go on one runtime
    try:
        with shared.use() as runtime:
            found, environment = runtime.fingerprint()
            layout = runtime.layout
        schedules = {"sequential": sequential(graph, parts, layout), "greedy": greedy(graph, parts, layout)}
        if content.chosen not in schedules:
            schedules[content.chosen] = content.schedule()
        if trace is not None:
            with compiled(content.schedule()) as model:
                about = {"model": content.model, "batch": graph.batch, "dtype": graph.dtype, "device": found.model}
                save_trace(trace_document(graph, model.schedule, model.trace(), about), trace)
        settings = EvaluationSettings(rounds=rounds, max_rounds=rounds, check=check and not found.simulated)
        evaluation = evaluate(compiled, graph, schedules, values, settings, seed)
    finally:
        runtimes.release(shared)
    reference = evaluation.latencies["sequential"].median
    rows = []
    for name, schedule in schedules.items():
        measured = evaluation.latencies[name]
        entry = content.latencies.get(name)
        same = found.model == content.device.model and dict(environment.hard) == content.device.environment
        rows.append(
            RunRow(
                name,
                len(schedule.stages),
                measured.median,
                measured.mad,
                entry.predicted if entry and same else None,
                reference / measured.median,
                evaluation.errors[name],
            )
        )
    notes = [] if weights else [f"random weights (seed {seed}): --weights takes the zoo.yaml or ONNX file they are in"]
    if not same:
        notes.append(f"searched on {content.device.model}, run on {found.model}: predictions are left out")
    if found.simulated:
        notes.append("latencies are simulated, numbers were not checked")
    title = f"{content.model}, batch {content.batch}, {content.dtype} on {found.model}, chosen: {content.chosen}"
    written = None if trace is None else str(trace)
    limit = tolerance(graph.dtype, environment)
    return RunReport(title, spec, found.simulated, limit, tuple(rows), tuple(notes), written)
