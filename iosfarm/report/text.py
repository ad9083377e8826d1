"""A report for terminals: lines and tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iosfarm.report.contents import Alternatives, Report, ScheduleReport, StageReport
from iosfarm.report.numbers import milliseconds, percent, times

BAR = 32
"""Characters of a bar."""

MOST_POINTS = 12
"""Of the certificate's history that are shown."""

_LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Table:
    """Columns and rows under a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


Block = str | Table


def blocks(report: Report) -> Iterator[Block]:
    """Lines and tables in the order in which they are read."""
    for run in report.runs:
        facts = ", ".join(f"{name} {value}" for name, value in run.facts.items())
        yield f"run {run.id}: {facts}" + (f"; {run.note}" if run.note else "")
        yield from (f"  {text}" for text in run.without)
    if len(report.schedules) > 1:
        yield _side_by_side(report.schedules)
    for schedule in report.schedules:
        yield ""
        yield from _schedule(schedule)


def _side_by_side(schedules: Sequence[ScheduleReport]) -> Table:
    columns = (
        "model",
        "device",
        "batch",
        "dtype",
        "sequential ms",
        "chosen ms",
        "speed-up",
        "gap",
        "schedule",
        "stages",
    )
    rows = tuple(
        (
            s.model,
            _device(s),
            s.batch,
            s.dtype,
            _ms(s.sequential),
            _ms(s.best),
            times(s.speedup) + ("" if s.measured else " predicted"),
            percent(s.proof.gap) if s.proof else "–",
            s.chosen + (" (partial)" if s.interrupted else ""),
            len(s.stages),
        )
        for s in schedules
    )
    return Table(f"{len(schedules)} schedules side by side", columns, rows)


def _schedule(s: ScheduleReport) -> Iterator[Block]:
    yield f"{s.model}, batch {s.batch}, {s.dtype} on {s.device} ({_device(s)})"
    how = "end to end" if s.measured else "predicted, as the sum of the stages"
    before, after = milliseconds(s.sequential), milliseconds(s.best)
    most = max(stage.rows for stage in s.stages)
    yield f"  {times(s.speedup)} as fast: {before} one unit at a time, {after} {s.chosen}, {how}"
    if s.interrupted:
        yield "  partial: the search was interrupted before it came to its end"
    yield f"  {len(s.units)} units in {len(s.stages)} stages, at most {most} side by side"
    if s.proof is not None:
        yield f"  certificate: within {percent(s.proof.gap)} of the best in the search space, {s.proof.kind}"
    if s.timed:
        longest = max(s.sequential_length, s.length)
        yield f"  sequential {_bar(0, s.sequential_length, longest)} {milliseconds(s.sequential_length)}"
        yield f"  {s.chosen:<10} {_bar(0, s.length, longest)} {milliseconds(s.length)}, the sum of the stages"
    yield from _stages(s)
    if s.timed:
        by = "by what units take alone" if s.weighed else "estimated"
        for head, shares in (("kind of unit", s.kinds), ("part", s.parts)):
            rows = tuple(
                (r.name, r.units, _ms(r.sequential), _ms(r.chosen), _ms(r.sequential - r.chosen)) for r in shares
            )
            columns = (head, "units", "sequential ms", f"{s.chosen} ms", "saved ms")
            yield Table(f"where the time goes, by {head} ({by})", columns, rows)
    yield _samples(s)
    yield from _proof(s)
    yield from _provenance(s)


def _stages(s: ScheduleReport) -> Iterator[str]:
    yield ""
    yield f"what runs beside what{'' if s.timed else ' (not all stages were measured: all are drawn alike)'}"
    for number, stage in enumerate(s.stages):
        bar = _bar(stage.begin, stage.begin + stage.seconds, s.length)
        words = [milliseconds(stage.predicted)]
        if stage.alone is not None:
            words.append(f"one by one {milliseconds(stage.alone)}")
        if stage.samples is not None:
            words.append(f"{len(stage.samples)} samples")
        yield f"  {number:>4} {bar} {', '.join(words)}"
        for row, stream in enumerate(_streams(s, stage)):
            edge = "─" if stage.rows == 1 else "┌" if row == 0 else "└" if row == stage.rows - 1 else "│"
            yield f"       {edge} {stream}"
        if stage.alternatives is not None:
            yield f"       the next best: {_next_best(stage.alternatives)}"


def _streams(s: ScheduleReport, stage: StageReport) -> list[str]:
    streams: list[list[str]] = [[] for _ in range(stage.rows)]
    for box in stage.boxes:
        name = " + ".join(s.units[unit].name for unit in box.units)
        streams[box.row].append(f"{name} merged" if box.merged else name)
    return [", then ".join(names) for names in streams]


def _next_best(found: Alternatives) -> str:
    if not found.choices:
        return "nothing else could run here"
    first = found.choices[0]
    if not first.simpler:
        return first.why
    return f"{len(first.groups)} simpler stages, {first.why}"


def _samples(s: ScheduleReport) -> Table:
    everything = [sample for entry in s.latencies for sample in entry.samples]
    rows = []
    for entry in s.latencies:
        values = entry.samples
        spread = _histogram(values, min(everything), max(everything)) if values else ""
        ends = (_ms(min(values)), _ms(statistics.median(values)), _ms(max(values))) if values else (None, None, None)
        rows.append((entry.name, len(values), *ends, spread, _ms(entry.predicted)))
    columns = ("schedule", "samples", "fastest ms", "median ms", "slowest ms", "distribution", "sum of its stages ms")
    return Table(f"{'simulated' if s.simulated else 'measured'} end to end", columns, tuple(rows))


def _proof(s: ScheduleReport) -> Iterator[Block]:
    if s.proof is None or not s.proof.history:
        return
    points = s.proof.history
    step = max(1, -(-len(points) // MOST_POINTS))
    shown = [*points[:-1:step], points[-1]]
    rows = tuple(
        (round(p.seconds, 1), p.known, _ms(p.lower), _ms(p.upper), percent(p.upper / p.lower - 1) if p.lower else "–")
        for p in shown
    )
    yield Table("the certificate over time", ("seconds", "stages known", "at least ms", "best known ms", "gap"), rows)
    for text in s.proof.assumptions:
        yield f"  assumes: {text}"


def _provenance(s: ScheduleReport) -> Iterator[str]:
    yield ""
    yield "where it is from"
    for group, values in s.facts.items():
        if values:
            yield f"  {group}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    for text in s.notes:
        yield f"  note: {text}"
    for text in s.missing:
        yield f"  not in this report: {text}"


def _device(s: ScheduleReport) -> str:
    return f"{s.spec}, simulated" if s.simulated else s.spec


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _bar(begin: float, end: float, whole: float) -> str:
    """A bar where it is on an axis of `BAR` characters; never so short that it is not seen."""
    first = min(BAR - 1, round(begin / whole * BAR)) if whole else 0
    last = max(first + 1, round(end / whole * BAR)) if whole else BAR
    return " " * first + "█" * (last - first) + " " * (BAR - last)


def _histogram(samples: Sequence[float], low: float, high: float) -> str:
    """How samples lie between two values: a character is a share of the range, its height a number of samples."""
    counts = [0] * BAR
    for sample in samples:
        place = (sample - low) / (high - low) if high > low else 0.5
        counts[min(BAR - 1, int(place * BAR))] += 1
    most = max(counts)
    return "".join(_LEVELS[-(-count * (len(_LEVELS) - 1) // most)] for count in counts)
