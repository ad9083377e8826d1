"""Schedule files: versioned JSON that says what to run, where it was found, and how good it is.

The file holds the graph, so that it can be shown and run wherever it is taken. Latencies are in seconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from iosfarm.farm.jobs import Job, JobResult
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Certificate, CertificatePoint, Schedule, ScheduledStage
from iosfarm.workers.evaluating import schedule_key

FORMAT = "iosfarm-schedule"
VERSION = 1

Fact = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class StageEntry(_Strict):
    """One stage: groups run side by side, the units of a group in order; in a mixed one, merged where they can be."""

    part: int = Field(ge=0)
    strategy: Literal["concurrent", "merge", "mixed"]
    groups: list[list[str]] = Field(min_length=1)
    key: str
    predicted: float | None = Field(default=None, gt=0)
    measurement: int | None = None


class PointEntry(_Strict):
    """What the search knew at one time."""

    seconds: float = Field(ge=0, description="since it began")
    known: int = Field(ge=0, description="distinct stages")
    lower: float = Field(ge=0)
    upper: float = Field(gt=0)


class CertificateEntry(_Strict):
    """How far the predicted latency can be from the best of the search space."""

    kind: Literal["exhaustive", "structural", "statistical"]
    lower: float = Field(ge=0)
    upper: float = Field(gt=0)
    gap: float | None = Field(default=None, ge=0, description="(upper - lower) / lower; null where lower is 0")
    assumptions: list[str] = []
    audited: int = Field(default=0, ge=0, description="bounds that were put to the test by a measurement")
    broken: int = Field(default=0, ge=0, description="those that failed")
    structural: float | None = Field(default=None, ge=0, description="lower bound without statistics")
    confidence: float | None = Field(default=None, gt=0, lt=1, description="of each statistical bound")
    history: list[PointEntry] = Field(default=[], description="how the bounds drew together")

    def value(self) -> Certificate:
        """The entry as a `Certificate`."""
        assumptions = tuple(self.assumptions)
        found = self.audited, self.broken, self.structural, self.confidence
        history = tuple(CertificatePoint(p.seconds, p.known, p.lower, p.upper) for p in self.history)
        return Certificate(self.kind, self.lower, self.upper, assumptions, *found, history)


class LatencyEntry(_Strict):
    """One schedule's latency: the sum of its stages, and what was measured end to end."""

    key: str = Field(default="", description="of the schedule: a hash of its stages' keys")
    predicted: float | None = Field(default=None, gt=0)
    measured: float | None = Field(default=None, gt=0, description="median of the samples")
    samples: list[float] = []
    relative_error: float | None = Field(default=None, ge=0, description="against float64; null: not checked")


class DeviceEntry(_Strict):
    """What measured."""

    spec: str
    kind: str
    model: str
    simulated: bool
    properties: dict[str, Fact]
    environment: dict[str, Fact]
    environment_soft: dict[str, Fact]


class SettingsEntry(_Strict):
    """How the schedule was searched for."""

    method: str
    gap: float | None = Field(default=None, ge=0, description="to stop at; null: exhaustive")
    certificate: str | None = None
    confidence: float | None = None
    max_group_size: int | None
    max_groups: int | None
    strategies: list[str]
    endings: str
    max_part_size: int
    budget: float | None = Field(description="seconds")
    budget_stages: int | None = None
    seed: int


class CountsEntry(_Strict):
    """Distinct stages of the search."""

    stages: int = Field(description="that there are")
    found: int
    measured: int
    failed: int
    infeasible: int
    checked: int = Field(default=0, description="measured again with more samples")
    rounds: int = Field(default=0, description="how often the search asked for stages")


class WonEntry(_Strict):
    """A move beyond the search space that measured better; seconds of the stages that it replaced."""

    description: str
    before: float = Field(gt=0)
    after: float = Field(gt=0)


class ScheduleFile(_Strict):
    """The whole document."""

    format: Literal["iosfarm-schedule"] = "iosfarm-schedule"
    version: Literal[1] = 1
    iosfarm: str
    created: datetime
    model: str
    graph_hash: str
    batch: int = Field(ge=1)
    dtype: str
    layout: str
    device: DeviceEntry
    chosen: Literal["optimised", "refined", "sequential", "greedy", "free", "free-shortest", "free-critical"] = Field(
        description="which schedule `stages` are"
    )
    form: Literal["stages", "free", "free-shortest", "free-critical"] = Field(
        default="stages", description="with a barrier between stages, or with true dependencies alone, in which order"
    )
    stages: list[StageEntry] = Field(min_length=1)
    certificate: CertificateEntry | None = Field(description="of the optimised schedule")
    latencies: dict[str, LatencyEntry]
    settings: SettingsEntry
    counts: CountsEntry
    seconds: float = Field(ge=0)
    interrupted: bool
    regret: float | None = Field(default=None, ge=0, description="what noise may have cost on average, relative")
    won: list[WonEntry] = Field(default=[], description="by the refined schedule over the optimised one")
    alone: dict[str, float] = Field(default={}, description="latency of each unit as a stage of its own")
    notes: list[str] = []
    graph: dict[str, Any]

    def schedule(self) -> Schedule:
        """The stages as a `Schedule`, with the certificate if they are the optimised ones."""
        stages = tuple(
            ScheduledStage(s.part, s.strategy, tuple(map(tuple, s.groups)), s.key, s.predicted, s.measurement)
            for s in self.stages
        )
        if self.chosen != "optimised" or self.certificate is None:
            return Schedule(stages, self.chosen, form=self.form)
        return Schedule(stages, self.settings.method, self.certificate.value())


def document(result: JobResult) -> ScheduleFile:
    """The file of a search's result."""
    job, info, schedule = result.job, result.device, result.schedule
    certificate = result.schedules["optimised"].certificate
    return ScheduleFile(
        iosfarm=version("iosfarm"),
        created=datetime.now(UTC),
        model=job.label,
        graph_hash=job.graph.content_hash,
        batch=job.graph.batch,
        dtype=job.graph.dtype,
        layout=info.layout,
        device=_device(info.spec, info.device, info.environment),
        chosen=result.chosen,  # type: ignore[arg-type]
        form=schedule.form,  # type: ignore[arg-type]
        stages=[
            StageEntry(
                part=s.part,
                strategy=s.strategy,  # type: ignore[arg-type]
                groups=[list(g) for g in s.groups],
                key=s.key,
                predicted=s.predicted,
                measurement=s.measurement,
            )
            for s in schedule.stages
        ],
        certificate=_certificate(certificate) if certificate else None,
        latencies={
            name: LatencyEntry(
                key=schedule_key(candidate),
                predicted=candidate.predicted,
                measured=result.latency(name),
                samples=list(result.latencies[name].samples) if name in result.latencies else [],
                relative_error=_finite(result.errors.get(name)),
            )
            for name, candidate in result.schedules.items()
        },
        settings=settings_entry(job),
        counts=CountsEntry(
            stages=result.counts.stages,
            found=result.counts.found,
            measured=result.counts.measured,
            failed=result.counts.failed,
            infeasible=result.counts.infeasible,
            checked=result.counts.checked,
            rounds=result.counts.rounds,
        ),
        seconds=result.seconds,
        interrupted=result.interrupted,
        regret=result.regret,
        won=[WonEntry(description=w.description, before=w.before, after=w.after) for w in result.won],
        alone={
            name: stage.predicted
            for stage in result.schedules["sequential"].stages
            for name in stage.groups[0]
            if stage.predicted is not None
        },
        notes=list(result.notes),
        graph=job.graph.to_json(),
    )


def settings_entry(job: Job) -> SettingsEntry:
    """How a job is to be searched."""
    settings, method = job.settings, job.settings.method
    certified = method.name == "certified"
    return SettingsEntry(
        method=method.name,
        gap=method.gap if certified else None,
        certificate=method.certificate if certified else None,
        confidence=method.confidence if certified else None,
        max_group_size=settings.space.max_group_size,
        max_groups=settings.space.max_groups,
        strategies=list(settings.space.strategies),
        endings=settings.space.endings,
        max_part_size=settings.max_part_size,
        budget=settings.budget.seconds,
        budget_stages=settings.budget.stages,
        seed=job.seed,
    )


def _finite(error: float | None) -> float | None:
    # JSON has no infinity, which is the error of a schedule that yields NaN.
    return None if error is None else min(error, sys.float_info.max)


def _certificate(certificate: Certificate) -> CertificateEntry:
    return CertificateEntry(
        kind=certificate.kind,  # type: ignore[arg-type]
        lower=certificate.lower,
        upper=certificate.upper,
        gap=certificate.gap if certificate.lower > 0 else None,
        assumptions=list(certificate.assumptions),
        audited=certificate.audited,
        broken=certificate.broken,
        structural=certificate.structural,
        confidence=certificate.confidence,
        history=[PointEntry(**asdict(point)) for point in certificate.history],
    )


def _device(spec: str, device: Device, environment: Environment) -> DeviceEntry:
    return DeviceEntry(
        spec=spec,
        kind=device.kind,
        model=device.model,
        simulated=device.simulated,
        properties=dict(device.properties),
        environment=dict(environment.hard),
        environment_soft=dict(environment.soft),
    )


class OutputError(IosfarmError):
    """The output folder or a file in it cannot be written."""


def check_folder(folder: Path, option: str = "--out") -> None:
    """Make an output folder and prove that it can be written, before anything is measured. option: that named it.

    Raises:
        OutputError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            "cannot write here: not a folder", where=str(folder), hint=f"choose another folder with {option}"
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write here: {error.strerror or error}",
            where=str(folder),
            hint=f"choose another folder with {option}",
        ) from error


def save(content: ScheduleFile, path: Path) -> None:
    """Write a schedule file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(
        content.model_dump_json(indent=1) + "\n",
        path,
        what="the schedule",
        hint="what was measured is in the database; search again with another --out",
    )


def write_whole(text: str, path: Path, *, what: str, hint: str = "") -> None:
    """Write a file whole or not at all. what, hint: of the error.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {what}: {error.strerror or error}", where=str(path), hint=hint) from error


def target(folder: Path, name: str, content: ScheduleFile) -> Path:
    """Where a result belongs. One that was interrupted does not replace one that was not."""
    path = folder / f"{name}.json"
    if content.interrupted and path.exists():
        with suppress(UsageError):
            if not load(path)[0].interrupted:
                return folder / f"{name}-interrupted.json"
    return path


def load(path: Path, graph: Graph | None = None) -> tuple[ScheduleFile, Graph]:
    """A schedule file and its graph, validated. graph: the one that it must fit, default the one in the file.

    Raises:
        UsageError: the file is missing, truncated, of another format or version, or for another graph; the line says
            what does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UsageError(f"cannot read the schedule: {reason}", where=str(path)) from error
    return parse(text, str(path), graph)


def parse(text: str, where: str, graph: Graph | None = None) -> tuple[ScheduleFile, Graph]:
    """As `load`, of a schedule file's text. where: what messages call it."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"not JSON ({error})", where=where, hint="is the file truncated? search again to write a new one"
        ) from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UsageError("not a schedule file", where=where, hint=f'expected an object with "format": "{FORMAT}"')
    if raw.get("version") != VERSION:
        hint = f"this program reads version {VERSION}"
        raise UsageError(f"schedule file version {raw.get('version')!r}", where=where, hint=hint)
    try:
        content = ScheduleFile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UsageError(f"{place}: {first['msg']}{more}", where=where, hint="was the file edited?") from error
    try:
        own = Graph.from_json(content.graph)
    except UsageError as error:
        raise UsageError(f"its graph: {error.what}", where=where, hint=error.hint) from error
    fits = own if graph is None else graph.bind(batch=own.batch, dtype=own.dtype)
    if fits.content_hash != content.graph_hash:
        raise UsageError(
            f"made for another graph than {fits.name!r}: hash {content.graph_hash[:12]}, not {fits.content_hash[:12]}",
            where=where,
            hint="search again for this graph",
        )
    if (content.batch, content.dtype) != (fits.batch, fits.dtype):
        raise UsageError(
            f"for batch {content.batch}, {content.dtype}, but its graph is for batch {fits.batch}, {fits.dtype}",
            where=where,
            hint="was the file edited?",
        )
    try:
        content.schedule().place(fits, content.layout)
    except UsageError as error:
        raise UsageError(str(error), where=where) from error
    return content, fits
