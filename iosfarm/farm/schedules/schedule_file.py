"""Schedule files: versioned JSON that says what to run, where it was found, and how good it is.

The file holds the graph, so that it can be shown and run wherever it is taken. Latencies are in seconds. What is in it
is in `schedule_format`.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from iosfarm.farm.jobs.job import Job, JobResult
from iosfarm.farm.output_files import write_whole
from iosfarm.farm.schedules.schedule_format import (
    FORMAT,
    VERSION,
    CertificateEntry,
    CountsEntry,
    DeviceEntry,
    LatencyEntry,
    PointEntry,
    ScheduleFile,
    SettingsEntry,
    StageEntry,
    WonEntry,
)
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Certificate
from iosfarm.workers.evaluating import schedule_key


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
