"""`iosfarm show`: what runs beside what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iosfarm.farm.schedules.schedule_format import ScheduleFile
    from iosfarm.ir.graph import Graph


def command(
    schedule: Annotated[Path, typer.Argument(help="A schedule file.", metavar="SCHEDULE.json")],
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Draw the stages over time into this file.", show_default=False)
    ] = None,
    part: Annotated[int | None, typer.Option("--part", help="Only this part.", show_default=False)] = None,
    why: Annotated[
        int | None,
        typer.Option("--why", metavar="STAGE", help="What could run instead of this stage costs.", show_default=False),
    ] = None,
    db: Annotated[
        str | None,
        typer.Option("--db", metavar="URL", help="With --why: the latencies. [default: $IOSFARM_DB, else the user's]"),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--most", min=0, help="With --why: so many of the best. [default: 10]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a schedule: its stages in order, and what runs side by side in each.

    With --why, what the alternatives to one stage cost: measured, or at least.

    Example: iosfarm show schedules/squeezenet-cpu-b1-float32.json --why 3
    """
    from iosfarm.cli.output import print_json
    from iosfarm.farm.output_files import OutputError
    from iosfarm.farm.schedules.drawing import draw_svg
    from iosfarm.farm.schedules.schedule_file import load
    from iosfarm.ir.errors import UsageError

    content, graph = load(schedule)
    if why is not None:
        from iosfarm.cli.why import tell

        if svg is not None or part is not None:
            raise UsageError("--why is about one stage", hint="leave --svg and --part out")
        tell(content, graph, why, db, 10 if most is None else most, str(schedule), as_json=as_json)
        return
    if db is not None or most is not None:
        raise UsageError("--db and --most go with --why", hint="such as --why 0")
    parts = sorted({stage.part for stage in content.stages})
    if part is not None and part not in parts:
        raise UsageError(f"there is no part {part}", where=str(schedule), hint=f"parts are {parts[0]} to {parts[-1]}")
    if svg is not None:
        try:
            svg.write_text(draw_svg(content, graph, part), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the picture: {error.strerror}", where=str(svg)) from error
    if as_json:
        stages = [s.model_dump() for s in content.stages if part in (None, s.part)]
        head = content.model_dump(mode="json", exclude={"graph", "stages"})
        print_json({**head, "stages": stages, "svg": str(svg) if svg else None})
        return
    for line in _lines(content, graph, part):
        typer.echo(line)
    if svg is not None:
        typer.echo(f"wrote {svg}")


def _lines(content: ScheduleFile, graph: Graph, part: int | None) -> Iterator[str]:
    placed = content.schedule().place(graph, content.layout)
    simulated = ", simulated" if content.device.simulated else ""
    device = f"{content.device.model} ({content.device.spec}{simulated})"
    yield f"{content.model}, batch {content.batch}, {content.dtype} on {device}"
    yield f"  {content.chosen} schedule: {len(graph.units)} units in {len(content.stages)} stages"
    for name, entry in content.latencies.items():
        measured = f"{entry.measured * 1e3:.3f} ms end to end" if entry.measured else "not measured end to end"
        predicted = f"{entry.predicted * 1e3:.3f} ms predicted" if entry.predicted else "not predicted"
        yield f"  {name + ':':<12} {measured}, {predicted}"
    if content.certificate:
        gap = "unknown" if content.certificate.gap is None else f"{content.certificate.gap:.2%}"
        yield f"  certificate: {content.certificate.kind}, gap {gap}"
    previous = None
    for number, (stage, item) in enumerate(zip(content.stages, placed, strict=True)):
        if part not in (None, stage.part):
            continue
        if stage.part != previous:
            total = sum(s.predicted or 0 for s in content.stages if s.part == stage.part)
            yield f"part {stage.part}" + (f"  {total * 1e3:.3f} ms" if total else "")
            previous = stage.part
        seconds = f"{stage.predicted * 1e3:.3f} ms" if stage.predicted else ""
        merged = "  merged into one convolution" if stage.strategy == "merge" else ""
        yield f"  stage {number:<4}{seconds:>12}{merged}"
        count = len(item.groups)
        for row, (numbers, units) in enumerate(zip(item.groups, item.stage.groups, strict=True)):
            edge = "─" if count == 1 else "┌" if row == 0 else "└" if row == count - 1 else "│"
            kinds = (" → ".join(o.kind for o in unit.operators) for unit in units)
            names = (graph.units[number].name for number in numbers)
            together = stage.strategy == "mixed" and item.stage.streams[row].merged
            between = " + " if together else ", then "
            work = between.join(f"{name} ({kind})" for name, kind in zip(names, kinds, strict=True))
            yield f"      {edge} {work}{', merged into one convolution' if together else ''}"
