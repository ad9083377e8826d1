"""`iosfarm show --why`: what the alternatives to a stage cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iosfarm.farm.schedules.explanation import Explanation, NamedStage, Row
    from iosfarm.farm.schedules.schedule_format import ScheduleFile
    from iosfarm.ir.graph import Graph
    from iosfarm.search.alternatives import Cost


def tell(
    content: ScheduleFile, graph: Graph, stage: int, db: str | None, most: int, where: str, *, as_json: bool
) -> None:
    """Print why a schedule has a stage."""
    from iosfarm.cli.output import print_json
    from iosfarm.db import LatencyDatabase
    from iosfarm.farm.schedules.explaining import explain

    with LatencyDatabase(db, readonly=True) as database:
        found = explain(content, graph, stage, database, most=most, where=where)
    if as_json:
        print_json(_document(content, found))
        return
    for line in _lines(content, found):
        typer.echo(line)


def _document(content: ScheduleFile, found: Explanation) -> dict[str, Any]:
    """Latencies in seconds; null where they are not known, and for what cannot run."""
    return {
        "model": content.model,
        "device": content.device.model_dump(include={"spec", "kind", "model", "simulated"}),
        "stage": found.stage,
        "part": found.part,
        "chosen": _row(found.chosen),
        "others": found.others,
        "measured": found.measured,
        "infeasible": found.infeasible,
        "alternatives": [_row(row) for row in found.best],
        "simpler": [_row(row) for row in found.simpler],
        "notes": list(found.notes),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "stages": [{"strategy": s.strategy, "groups": [list(group) for group in s.groups]} for s in row.stages],
        **_cost(row.own),
        "infeasible": row.own.known is not None and math.isinf(row.own.known),
        "samples": row.samples,
        "expected": row.expected,
        "part": _cost(row.whole),
        "why": row.why,
    }


def _cost(cost: Cost) -> dict[str, Any]:
    """Bounds that no measurement stands behind are null too."""
    known = cost.known if cost.known is not None and math.isfinite(cost.known) else None
    at_least = cost.at_least if 0 < cost.at_least < math.inf else None
    return {"measured": known, "at_least": at_least, "statistical": cost.statistical}


def _lines(content: ScheduleFile, found: Explanation) -> Iterator[str]:
    simulated = ", simulated" if content.device.simulated else ""
    device = f"{content.device.model} ({content.device.spec}{simulated})"
    yield f"{content.model}, batch {content.batch}, {content.dtype} on {device}"
    yield f"stage {found.stage} of part {found.part}: {_own(found.chosen)}; {_whole(found.chosen)}"
    yield from _groups(found.chosen)
    if found.others is not None:
        if not found.others:
            yield "nothing else could run here"
        else:
            cannot = f", {found.infeasible} cannot run" if found.infeasible else ""
            count = f"{found.others} other stages" if found.others > 1 else "1 other stage"
            yield f"{count} could run here, {found.measured} measured{cannot}" + (":" if found.best else "")
    for position, row in enumerate(found.best, 1):
        yield f"  {position}. {_own(row)}; {_whole(row)}"
        yield f"     {row.why}"
        yield from _groups(row)
    if found.simpler:
        yield "simpler:"
    for row in found.simpler:
        each = "every unit alone" if all(_alone(stage) for stage in row.stages) else "one group after the other"
        yield f"  {each}, {len(row.stages)} stages: {_own(row)}; {_whole(row)}"
        yield f"     {row.why}"
    for note in found.notes:
        yield f"note: {note}"


def _alone(stage: NamedStage) -> bool:
    return len(stage.groups) == 1 and len(stage.groups[0]) == 1


def _own(row: Row) -> str:
    if row.own.known is not None and math.isinf(row.own.known):
        return "infeasible"
    text = _milliseconds(row.own)
    if row.samples:
        text += f" ({row.samples} samples)" if row.samples > 1 else " (1 sample)"
    return f"{text}, expected {row.expected * 1e3:.4f} ms" if row.expected is not None else text


def _whole(row: Row) -> str:
    return f"the part {_milliseconds(row.whole)}"


def _milliseconds(cost: Cost) -> str:
    if cost.known is not None:
        return f"{cost.known * 1e3:.4f} ms" if math.isfinite(cost.known) else "infeasible"
    return f"at least {cost.at_least * 1e3:.4f} ms" if 0 < cost.at_least < math.inf else "unknown"


def _groups(row: Row) -> Iterator[str]:
    for stage in row.stages:
        merged = "  merged into one convolution" if stage.strategy == "merge" else ""
        for position, group in enumerate(stage.groups):
            last = len(stage.groups) - 1
            edge = "─" if not last else "┌" if position == 0 else "└" if position == last else "│"
            yield f"      {edge} {', then '.join(group)}{merged if position == 0 else ''}"
