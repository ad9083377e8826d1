"""`iosfarm report`: everything that there is to know of schedules, as a page to look at or as text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    targets: Annotated[
        list[str],
        typer.Argument(help="Schedule files, or the numbers of runs in the database.", metavar="RUN|SCHEDULE.json..."),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write one self-contained page into this file.", show_default=False)
    ] = None,
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="URL",
            help="Samples of stages and what alternatives cost, of schedule files too. "
            "[default: for runs $IOSFARM_DB, else the user's]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Report on schedules: what runs beside what, what that won, where the time goes, how sure it is.

    With --html as a page that needs no network: the schedule over time beside the sequential one, the graph, samples,
    the certificate over time, alternatives, provenance. Else the same as text. Several schedules come side by side.

    Example: iosfarm report schedules/squeezenet-cpu-b1-float32.json --html squeezenet.html --db latency.db
    """
    from dataclasses import asdict

    from iosfarm.cli.output import print_json, print_table, stderr_console
    from iosfarm.farm.output_files import write_whole
    from iosfarm.report.building import report_on
    from iosfarm.report.rendering import render
    from iosfarm.report.text import Table, blocks

    console = stderr_console()
    tell = (lambda line: console.print(line)) if console.is_terminal else (lambda line: None)
    report = report_on(targets, db, tell=tell)
    if html is not None:
        page = render(report)
        write_whole(page, html, what="the report", hint="choose another file with --html")
        console.print(f"wrote {html} ({len(page.encode()) / 1e6:.2f} MB)")
    if as_json:
        print_json(asdict(report))
    elif html is None:
        for block in blocks(report):
            if isinstance(block, Table):
                print_table(block.columns, block.rows, title=f"\n{block.title}")
            else:
                typer.echo(block)
