"""`iosfarm db export`, `import`, `merge`: measurements from one database to another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iosfarm.cli.db_options import Json, Url, parse_moment
from iosfarm.cli.output import print_json, stderr_console
from iosfarm.ir.errors import IosfarmError

if TYPE_CHECKING:
    from iosfarm.db import ImportReport

MOST_SHOWN = 20
"""Rejected rows that are named on the terminal; `--json` names a thousand."""

Device = Annotated[str | None, typer.Option(help="Only of this device: model name, or kind such as cpu.")]
Status = Annotated[str | None, typer.Option(help="Only ok, infeasible, failed, timeout or quarantined.")]
Simulated = Annotated[
    bool | None, typer.Option("--simulated/--real", help="Only simulated latencies, or only measured ones.")
]
Since = Annotated[str | None, typer.Option(metavar="AGE|DATE", help="Only measured since: 7d, 2026-05-31.")]


def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet if its name ends so, else JSON lines.")],
    device: Device = None,
    status: Status = None,
    simulated: Simulated = None,
    since: Since = None,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Write measurements to a file: JSON lines hold all that the database does, Parquet is for other programs, too.

    Example: iosfarm db export measurements.jsonl --device "NVIDIA H200" --since 30d
    """
    from iosfarm.db import LatencyDatabase

    moment = parse_moment(since, "--since")
    with (
        LatencyDatabase(db, readonly=True) as database,
        stderr_console().status("exporting") as progress,
    ):
        try:
            count = database.export(
                out,
                report=lambda done: progress.update(f"exporting: {done:,} measurements"),
                device=device,
                status=status,
                simulated=simulated,
                since=moment,
            )
        except OSError as error:
            raise IosfarmError(f"cannot write: {error.strerror or error}", where=str(out)) from error
        name = database.name
    if as_json:
        print_json({"database": name, "file": str(out), "measurements": count})
    else:
        print(f"wrote {count:,} measurements to {out}")


def import_file(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What `iosfarm db export` wrote.")],
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Store what exported files hold; what is there already is not stored twice, wrong rows are named and left out.

    Example: iosfarm db import measurements.jsonl
    """
    from iosfarm.db import LatencyDatabase

    reports = []
    with LatencyDatabase(db) as database, stderr_console().status("importing") as progress:
        for path in files:
            reports.append(database.import_file(path, report=lambda r: progress.update(_progress(r))))
        name = database.name
    _tell(name, reports, as_json)


def merge(
    sources: Annotated[list[str], typer.Argument(metavar="URL...", help="Files or URLs of other latency databases.")],
    device: Device = None,
    status: Status = None,
    simulated: Simulated = None,
    since: Since = None,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Store what other databases hold: measurements, runs, searches, schedules and plans. The others are only read.

    Example: iosfarm db merge /mnt/other/latency.db --db postgresql://farm@db.example.org/iosfarm
    """
    from iosfarm.db import LatencyDatabase

    moment = parse_moment(since, "--since")
    reports = []
    with LatencyDatabase(db) as database, stderr_console().status("merging") as progress:
        for source in sources:
            with LatencyDatabase(source, readonly=True) as other:
                reports.append(
                    database.merge(
                        other,
                        report=lambda r: progress.update(_progress(r)),
                        device=device,
                        status=status,
                        simulated=simulated,
                        since=moment,
                    )
                )
        name = database.name
    _tell(name, reports, as_json)


def _progress(report: ImportReport) -> str:
    return f"{report.source}: {report.stored:,} stored, {report.known:,} known, {report.rejected:,} rejected"


def _counted(count: int, what: str) -> str:
    """`1 run`, `2 searches`."""
    ending = "" if count == 1 else "es" if what.endswith("ch") else "s"
    return f"{count:,} {what}{ending}"


def _tell(name: str, reports: list[ImportReport], as_json: bool) -> None:
    """Exit code 1 where something was left out: a script should know."""
    if as_json:
        print_json({"database": name, "imports": [asdict(report) for report in reports]})
    for report in reports:
        if not as_json:
            others = [(report.runs, "run"), (report.searches, "search"), (report.schedules, "schedule")]
            others.append((report.plans, "plan"))
            also = "".join(f", {_counted(count, what)}" for count, what in others if count)
            new = _counted(report.stored, "new measurement")
            flagged = f" ({report.quarantined:,} of them quarantined now)" if report.quarantined else ""
            known = f"{report.known:,} {'was' if report.known == 1 else 'were'} known"
            print(f"{report.source}: {new}{also}; {known}{flagged}")
        console = stderr_console()
        for rejected in report.named[:MOST_SHOWN]:
            console.print(f"{report.source}:{rejected.line}: left out: {rejected.reason}", soft_wrap=True)
        if report.rejected:
            more = f"; the first {MOST_SHOWN} are named, --json names more" if report.rejected > MOST_SHOWN else ""
            were = "was" if report.rejected == 1 else "were"
            line = f"{_counted(report.rejected, 'row')} {were} left out{more}"
            console.print(f"{report.source}: {line}", soft_wrap=True)
        if not report.complete:
            line = "the file ends too early: what was whole is stored; get the rest and import it again"
            console.print(f"{report.source}: {line}", soft_wrap=True)
    if any(report.rejected or not report.complete for report in reports):
        raise typer.Exit(1)
