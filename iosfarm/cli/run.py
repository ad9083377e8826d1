"""`iosfarm run`: execute a schedule, check its numbers, time it against the baselines."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer


def command(
    schedule: Annotated[Path, typer.Argument(help="A schedule file.", metavar="SCHEDULE.json")],
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Where to run.", show_default="the file's")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            help="A safetensors file, or the .onnx, .pt2 or zoo.yaml that has them.",
            show_default="random ones",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of random weights and inputs.", min=0)] = 0,
    rounds: Annotated[int, typer.Option("--rounds", help="Samples of each schedule, interleaved.", min=1)] = 30,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare with float64.")] = True,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Write what ran when, for Perfetto.", metavar="FILE.json")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Execute a schedule on its device beside the sequential and greedy ones, check the numbers, and time all three.

    Exits with 1 if a number is off by more than 1e-4 of the largest. A trace shows streams, units and stages of one
    execution; open it in ui.perfetto.dev or chrome://tracing.

    Example: iosfarm run schedules/squeezenet-cpu-b1-float32.json --rounds 50 --trace squeezenet-trace.json
    """
    from iosfarm.cli.output import print_json, print_table, stderr_console
    from iosfarm.deploy.running import run_schedule

    console = stderr_console()
    with console.status("running") if console.is_terminal else nullcontext():
        report = run_schedule(
            schedule,
            device=device,
            weights=weights,
            seed=seed,
            rounds=rounds,
            check=check,
            trace=trace,
            tell=lambda line: console.print(line, soft_wrap=True),
        )
    if as_json:
        print_json(report.document())
    else:
        rows = [
            [
                row.name,
                row.stages,
                row.measured * 1e3,
                row.mad * 1e3,
                None if row.predicted is None else row.predicted * 1e3,
                f"{row.predicted / row.measured - 1:+.1%}" if row.predicted else None,
                f"{row.speedup:.3f}x",
                "not checked" if row.error is None else f"{row.error:.1e}",
            ]
            for row in report.rows
        ]
        columns = ["schedule", "stages", "median ms", "MAD ms", "predicted ms", "off by", "speed-up", "error"]
        print_table(columns, rows, title=report.title)
        for note in report.notes:
            typer.echo(note)
        if report.trace:
            typer.echo(f"wrote {report.trace}")
    if not report.numbers_are_right:
        typer.echo(f"error: {report.worst}", err=True)
        raise typer.Exit(1)
