"""Puts a report together from schedules, and from the latency database where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from iosfarm.db import LatencyDatabase, Recorded
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph, Operator, Unit
from iosfarm.report import provenance
from iosfarm.report.breakdown import by_kind, by_part
from iosfarm.report.contents import (
    Alternatives,
    Latency,
    Point,
    Proof,
    Report,
    RunReport,
    ScheduleReport,
    StageReport,
    UnitReport,
)
from iosfarm.report.numbers import milliseconds
from iosfarm.report.remembered import alternatives, measurements
from iosfarm.report.sources import Source, is_run, of_file, of_run
from iosfarm.report.timeline import Timeline, timeline
from iosfarm.search.space import SpaceTooLargeError
from iosfarm.zoo.drawing import layers, operator_words, shape_words, unit_words


def report_on(
    targets: Sequence[str],
    db: str | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """A report on schedule files and runs, in that order of the command line.

    db: the latency database; None: of files nothing but what they hold is told, and runs are the default database's.
    tell: is told what is under way.

    Raises:
        UsageError: a target that cannot be read. DatabaseError.
    """
    sources: list[Source] = []
    runs: list[RunReport] = []
    with ExitStack() as stack:
        opened = db is not None or any(map(is_run, targets))
        database = stack.enter_context(LatencyDatabase(db, readonly=True)) if opened else None
        for target in targets:
            if is_run(target) and database is not None:
                run, found, without = of_run(database, int(target))
                runs.append(provenance.of_run(run, without))
                sources += found
            else:
                sources.append(of_file(target))
        if not sources:
            raise UsageError("a report on nothing", hint="name a schedule file or a run")
        schedules = []
        for number, source in enumerate(sources, 1):
            count = f" ({number} of {len(sources)})" if len(sources) > 1 else ""
            tell(f"reading {source.content.model} on {source.content.device.spec}{count}")
            schedules.append(describe(source, database))
    names = list(dict.fromkeys(source.content.model for source in sources))
    title = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    created = now().astimezone(UTC).isoformat(timespec="seconds")
    return Report(title, created, version("iosfarm"), tuple(runs), tuple(schedules))


def describe(source: Source, database: LatencyDatabase | None) -> ScheduleReport:
    """What is to be said of one schedule.

    Raises:
        DatabaseError.
    """
    content, graph = source.content, source.graph
    line = timeline(content, graph)
    missing = _missing(content, line)
    recorded: Mapping[str, Recorded] = {}
    others: Sequence[Alternatives | None] = [None] * len(content.stages)
    if database is None:
        missing.append(
            "the samples of single stages and what the alternatives cost: they are in the latency database; name it "
            "with --db"
        )
    else:
        recorded = measurements(source, database)
        if not recorded:
            missing.append(f"samples of single stages: {database.name} has none of this device and environment")
        try:
            others = alternatives(source, database)
        except SpaceTooLargeError as error:
            missing.append(f"what the alternatives cost: {error.what}")
    sequential, best, measured = _compared(content, line)
    device = content.device
    return ScheduleReport(
        model=content.model,
        batch=content.batch,
        dtype=content.dtype,
        device=device.model,
        spec=device.spec,
        simulated=device.simulated,
        interrupted=content.interrupted,
        where=source.where,
        chosen=content.chosen,
        sequential=sequential,
        best=best,
        speedup=sequential / best if sequential and best else None,
        measured=measured,
        timed=line.timed,
        weighed=line.weighed,
        units=_units(source, line),
        stages=tuple(_stage(content, line, n, recorded, others[n]) for n in range(len(content.stages))),
        latencies=tuple(
            Latency(name, e.predicted, e.measured, tuple(e.samples), e.relative_error)
            for name, e in content.latencies.items()
        ),
        kinds=by_kind(graph, line),
        parts=by_part(content, line),
        proof=_proof(content),
        notes=(*content.notes, *_refinements(content)),
        missing=tuple(missing),
        facts=provenance.of_schedule(content, source.where),
    )


def _refinements(content: ScheduleFile) -> list[str]:
    name = "refined" if content.chosen == "refined" else "refined, but not chosen"
    return [
        f"{name}: {won.description} ({milliseconds(won.before)} became {milliseconds(won.after)})"
        for won in content.won
    ]


def _missing(content: ScheduleFile, line: Timeline) -> list[str]:
    missing = []
    if not line.timed:
        missing.append("how long the stages take: not all of them were measured, and they are drawn alike")
    elif not line.weighed:
        missing.append(
            "what each unit takes alone: the file does not hold it, and the sequential schedule is drawn as "
            "floating-point operations and bytes would have it"
        )
    if content.certificate is None:
        missing.append("a certificate: the file holds none")
    elif not content.certificate.history:
        missing.append("how the certificate came about: the file does not hold it")
    if not any(entry.measured for entry in content.latencies.values()):
        missing.append("latencies end to end: the search ended before they were measured")
    return missing


def _compared(content: ScheduleFile, line: Timeline) -> tuple[float | None, float | None, bool]:
    """Latency of the sequential and of the chosen schedule; whether both were measured end to end."""
    entries = [content.latencies.get(name) for name in ("sequential", content.chosen)]
    before, after = (entry.measured if entry is not None else None for entry in entries)
    if before is not None and after is not None:
        return before, after, True
    before, after = (entry.predicted if entry is not None else None for entry in entries)
    return before, after or (math.fsum(line.seconds) if line.timed else None), False


def _units(source: Source, line: Timeline) -> tuple[UnitReport, ...]:
    graph = source.graph
    place = {
        unit: (row, column - (len(layer) - 1) / 2)
        for row, layer in enumerate(layers(graph))
        for column, unit in enumerate(layer)
    }
    begin = 0.0
    found = []
    for number, unit in enumerate(graph.units):
        shape = shape_words(graph.shape(unit.operators[-1]))
        row, column = place[number]
        found.append(
            UnitReport(
                name=unit.name,
                words=unit_words(graph, unit),
                label=_label(graph, unit),
                shape=shape,
                stage=line.stage_of[number],
                begin=begin,
                seconds=line.alone[number],
                share=line.share[number],
                layer=row,
                column=column,
                reads=graph.unit_predecessors[number],
            )
        )
        begin += line.alone[number]
    return tuple(found)


def _label(graph: Graph, unit: Unit) -> str:
    """The operator that says the most of a unit: of the largest kernel, then of the most work."""

    def weight(operator: Operator) -> tuple[int, int]:
        kernel = operator.attributes.get("kernel")
        return (math.prod(kernel) if isinstance(kernel, tuple) else 0), graph.flops(operator)

    return operator_words(graph, max(map(graph.operator, unit.operators), key=weight))


def _stage(
    content: ScheduleFile,
    line: Timeline,
    number: int,
    recorded: Mapping[str, Recorded],
    others: Alternatives | None,
) -> StageReport:
    entry, boxes = content.stages[number], line.boxes[number]
    found = recorded.get(entry.key)
    return StageReport(
        part=entry.part,
        strategy=entry.strategy,
        rows=max(box.row for box in boxes) + 1,
        boxes=boxes,
        begin=line.begins[number],
        seconds=line.seconds[number],
        predicted=entry.predicted,
        alone=math.fsum(line.alone[unit] for box in boxes for unit in box.units) if line.weighed else None,
        samples=found.measurement.samples if found is not None else None,
        measured_at=found.measurement.measured_at.isoformat(timespec="seconds") if found is not None else None,
        alternatives=others,
    )


def _proof(content: ScheduleFile) -> Proof | None:
    found = content.certificate
    if found is None:
        return None
    history = tuple(Point(**asdict(point)) for point in found.value().history)
    return Proof(
        kind=found.kind,
        lower=found.lower,
        upper=found.upper,
        gap=found.gap,
        confidence=found.confidence,
        audited=found.audited,
        broken=found.broken,
        assumptions=tuple(found.assumptions),
        history=history,
    )
