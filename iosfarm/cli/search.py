"""`iosfarm search`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iosfarm.farm.run_record import Saved


def command(
    models: Annotated[Path, typer.Option("--models", "-m", help="The zoo.yaml that says what to search.")],
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="auto, cpu, sim:v100?count=8; overrides the zoo.", show_default=False),
    ] = None,
    db: Annotated[
        str | None, typer.Option("--db", help="Latency database: a file or URL.", show_default="the user's own")
    ] = None,
    overlay: Annotated[
        str | None,
        typer.Option("--db-overlay", help="A latency database that is only read, beneath it.", show_default=False),
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for the schedule files.")] = "schedules",
    method: Annotated[
        str | None,
        typer.Option("--method", help="certified: measure what can matter; exhaustive: all.", show_default="certified"),
    ] = None,
    gap: Annotated[
        float | None, typer.Option("--gap", help="How far from optimal is good enough, relative.", show_default="0.01")
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option("--certificate", help="What proves it: statistical or structural.", show_default="statistical"),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="Of each statistical bound.", show_default="0.99")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Longest search: 90s, 10m, 1h, or 500 stages.", show_default=False),
    ] = None,
    max_group_size: Annotated[
        int | None, typer.Option("--max-group-size", "-r", help="Units a group may have.", show_default="3")
    ] = None,
    max_groups: Annotated[
        int | None, typer.Option("--max-groups", "-s", help="Groups a stage may have.", show_default="8")
    ] = None,
    executor: Annotated[
        str,
        typer.Option("--executor", help="ray; without it: process, one for each device here, or inline: this process."),
    ] = "ray",
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="A Ray cluster: auto, or host:port.", show_default="a local one")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="A file of JSON lines for what happens.", show_default=False)
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=1, max=65535, help="Serve Prometheus metrics there.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Find the fastest schedule of every model in a zoo, on every device that it names.

    Latencies are measured on the device and kept in the latency database: what was measured once is not measured
    again, and a search that is stopped (Ctrl-C, a budget, a crash) goes on where it was.

    It ends when no other schedule can be better by more than --gap, measured or not; --certificate says what may prove
    that. --budget 0 measures nothing and answers from the database.

    With --ray-address it uses every device of the cluster that the zoo selects, and goes on when workers fail. Several
    searches on one database share the work.

    Example: iosfarm search --models zoo.yaml --device cpu --gap 0.05 --budget "500 stages"
    """
    from iosfarm.cli.output import print_json, stderr_console
    from iosfarm.cli.progress import ProgressDisplay
    from iosfarm.farm.api import EXECUTORS, run_jobs
    from iosfarm.farm.forewarning import forewarned
    from iosfarm.farm.interrupt import graceful_interrupt
    from iosfarm.farm.zoo_jobs import Overrides, zoo_jobs
    from iosfarm.ir.errors import UsageError
    from iosfarm.search.solver import NoScheduleError

    given = {
        "device": device,
        "db": db,
        "db-overlay": overlay,
        "method": method,
        "certificate": certificate,
        "budget": budget,
        "out": out,
    }
    for name, value in {**given, "ray-address": ray_address}.items():
        if value == "":  # an unset variable of a script, most likely
            raise UsageError(f"an empty --{name}", hint="leave it out, or give it a value")
    if executor not in EXECUTORS:
        raise UsageError(f"unknown executor {executor!r}", hint=f"use one of {', '.join(EXECUTORS)}")
    overrides = Overrides(device, method, gap, certificate, confidence, budget, max_group_size, max_groups)
    console = stderr_console()
    jobs = forewarned(zoo_jobs(models, overrides), lambda line: console.print(line, soft_wrap=True))
    saved: list[Saved] = []
    failure: NoScheduleError | None = None
    with ProgressDisplay(console) as display, graceful_interrupt(display.stopping) as interrupt:

        def finished(item: Saved) -> None:
            saved.append(item)
            display.finished(item)

        try:
            run_jobs(
                jobs,
                database=db,
                overlay=overlay,
                executor=executor,
                ray_address=ray_address,
                out=Path(out),
                log=log,
                metrics_port=metrics_port,
                report=display.update,
                finished=finished,
                stop=interrupt,
            )
        except NoScheduleError as error:
            failure = error
    if failure is not None and not saved:
        raise failure
    order = [job.name for job in jobs]
    saved.sort(key=lambda item: order.index(item.result.job.name))
    # A signal that comes while the workers are being closed finds everything done.
    cut_short = interrupt.heeded and (len(saved) < len(jobs) or any(item.result.interrupted for item in saved))
    if as_json:
        print_json({"interrupted": cut_short, "results": [_document(item) for item in saved]})
    elif saved:
        _print(saved)
    if cut_short:
        line = "interrupted: what was measured is in the database; the same command goes on from there"
        console.print(line, soft_wrap=True)
        raise typer.Exit(interrupt.exit_code)
    if failure is not None:
        raise failure
    if any(item.result.wrong_numbers for item in saved):
        raise typer.Exit(1)


def _document(item: Saved) -> dict[str, object]:
    import json

    from iosfarm.farm.schedules.schedule_file import document

    content: dict[str, object] = json.loads(document(item.result).model_dump_json(exclude={"graph", "stages"}))
    return {**content, "speedup": item.result.speedup, "file": str(item.path) if item.path else None}


def _print(saved: list[Saved]) -> None:
    from iosfarm.cli.output import print_table

    rows = []
    for item in saved:
        result = item.result
        predicted, measured = result.schedules["optimised"].predicted, result.latency("optimised")
        certificate = result.schedules["optimised"].certificate
        speedup = result.speedup
        errors = [e for e in result.errors.values() if e is not None]
        rows.append(
            [
                result.job.label,
                result.device.spec + (" (simulated)" if result.device.device.simulated else ""),
                result.job.graph.batch,
                result.job.graph.dtype,
                result.counts.stages,
                result.counts.found,
                result.counts.measured,
                _ms(result.latency("sequential")),
                _ms(result.latency("greedy")),
                _ms(measured),
                f"{predicted * 1e3:.4g} ({predicted / measured - 1:+.1%})"
                if predicted and measured
                else _ms(predicted),
                f"{certificate.gap:.1%} {certificate.kind}" if certificate else None,
                result.chosen,
                f"{speedup:.2f}x" + ("" if result.measured else " (predicted)") if speedup else None,
                f"{max(errors):.0e}" if errors else None,
            ]
        )
    columns = ["model", "device", "batch", "dtype", "stages", "found", "measured", "sequential ms", "greedy ms"]
    columns += ["optimised ms", "predicted ms", "gap", "chosen", "speed-up", "error"]
    print_table(columns, rows)
    for item in saved:
        for note in item.result.notes:
            typer.echo(f"{item.result.job.label}: {note}")
    for item in saved:
        if item.path is not None:
            typer.echo(f"wrote {item.path}")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
