"""`iosfarm export`: a schedule's merged graph as a file for another runtime."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer


def command(
    schedule: Annotated[Path, typer.Argument(help="A schedule file.", metavar="SCHEDULE.json")],
    onnx: Annotated[Path | None, typer.Option("--onnx", help="Write an ONNX model.", metavar="FILE.onnx")] = None,
    torch: Annotated[
        Path | None, typer.Option("--torch", help="Write a torch.export program.", metavar="FILE.pt2")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            help="A safetensors file, or the .onnx, .pt2 or zoo.yaml that has them.",
            show_default="random ones",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of random weights and of the check's inputs.", min=0)] = 0,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Run the files; compare with float64.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write the network of a schedule with its merged convolutions as real ones, so that other runtimes gain by them.

    Exits with 1 if a number is off by more than 1e-4 of the largest.

    Example: iosfarm export schedules/squeezenet-cpu-b1-float32.json --onnx squeezenet.onnx --weights w.safetensors
    """
    from iosfarm.cli.output import print_json, stderr_console
    from iosfarm.deploy.exporting import export_schedule

    console = stderr_console()
    with console.status("exporting") if console.is_terminal else nullcontext():
        report = export_schedule(schedule, onnx=onnx, torch=torch, weights=weights, seed=seed, check=check)
    if as_json:
        print_json(report.document())
    else:
        typer.echo(f"{report.model}: {report.convolutions} convolutions, {report.exported_convolutions} after merging")
        for export in report.exports:
            error = "not checked" if export.error is None else f"error {export.error:.1e}"
            typer.echo(f"wrote {', '.join(export.files)} ({error})")
        for note in report.notes:
            typer.echo(note)
    if not report.numbers_are_right:
        worst = max(report.exports, key=lambda e: e.error or 0.0)
        what = f"{worst.files[0]} is off by {worst.error:.1e} of the largest number, more than {report.tolerance:.0e}"
        typer.echo(f"error: {what}", err=True)
        raise typer.Exit(1)
