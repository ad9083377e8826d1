"""Executing a schedule file: numbers and latencies beside the baselines'."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from iosfarm.farm.schedule_file import load
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.parts import cut
from iosfarm.workers.evaluating import TOLERANCES, EvaluationSettings
from iosfarm.workers.worker import Worker


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
    path: Path, *, device: str | None, weights: Path | None, seed: int, rounds: int, check: bool
) -> RunReport:
    """Run a schedule file's schedule, and sequential and greedy, on a device (default: the kind that it is for).

    Raises:
        UsageError: the file or the weights do not fit, or there is no such device.
    """
    from iosfarm.farm.api import resolve_device
    from iosfarm.zoo.weights import load_weights, random_weights

    content, graph = load(path)
    spec = resolve_device(device or content.device.spec)
    values = random_weights(graph, seed) if weights is None else load_weights(graph, weights)
    worker = Worker(spec)
    try:
        found, environment = worker.fingerprint()
        parts = cut(graph, max_part_size=content.settings.max_part_size)
        schedules = {
            "sequential": sequential(graph, parts, worker.layout),
            "greedy": greedy(graph, parts, worker.layout),
        }
        if content.chosen not in schedules:
            schedules[content.chosen] = content.schedule()
        settings = EvaluationSettings(rounds=rounds, max_rounds=rounds, check=check and not found.simulated)
        evaluation = worker.evaluate(graph, schedules, values, seed, settings)
    finally:
        worker.close()
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
    notes = []
    if not same:
        notes.append(f"searched on {content.device.model}, run on {found.model}: predictions are left out")
    if found.simulated:
        notes.append("latencies are simulated, numbers were not checked")
    title = f"{content.model}, batch {content.batch}, {content.dtype} on {found.model}, chosen: {content.chosen}"
    return RunReport(title, spec, found.simulated, TOLERANCES[graph.dtype], tuple(rows), tuple(notes))
