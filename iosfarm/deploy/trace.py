"""A schedule's real execution in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing show.

The format: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from iosfarm.farm.output_files import OutputError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels.network import Span

STAGES = "stages"
"""The row on which each stage is one slice, from its beginning to the barrier at its end."""


def trace_document(
    graph: Graph, schedule: Schedule, spans: Sequence[Span], about: Mapping[str, object]
) -> dict[str, object]:
    """Streams are threads, units are slices, and a row of its own shows the stages. about: any facts to go with it."""
    streams = [STAGES, *sorted({span.stream for span in spans if span.stream is not None})]
    row = {stream: number for number, stream in enumerate(streams)}
    events: list[dict[str, object]] = [_named("process_name", 0, graph.name)]
    for stream, number in row.items():
        events += [_named("thread_name", number, stream), _sorted(number)]
    operators = {unit.name: [graph.operator(name).kind for name in unit.operators] for unit in graph.units}
    for span in sorted(spans, key=lambda s: s.begin):
        stage = schedule.stages[span.stage]
        arguments: dict[str, object] = {"stage": span.stage, "strategy": stage.strategy}
        if span.stream is None:
            name, category, stream = f"stage {span.stage}", "stage", STAGES
            arguments |= {"part": stage.part, "groups": [list(group) for group in stage.groups]}
            if stage.predicted is not None:
                arguments["predicted_us"] = stage.predicted * 1e6
        else:
            name, category, stream = " + ".join(span.units), "unit", span.stream
            arguments["operators"] = [kind for unit in span.units for kind in operators[unit]]
        events.append(
            {
                "name": name,
                "cat": category,
                "ph": "X",
                "ts": span.begin * 1e6,
                "dur": (span.end - span.begin) * 1e6,
                "pid": 1,
                "tid": row[stream],
                "args": arguments,
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(about)}


def save_trace(document: Mapping[str, object], path: Path) -> None:
    """Write a trace.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the trace: {error.strerror or error}", where=str(path)) from error


def _named(what: str, thread: int, name: str) -> dict[str, object]:
    return {"name": what, "ph": "M", "pid": 1, "tid": thread, "args": {"name": name}}


def _sorted(thread: int) -> dict[str, object]:
    return {"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": thread, "args": {"sort_index": thread}}
