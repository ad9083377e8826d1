"""`iosfarm db prune`: deleting measurements."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from iosfarm.cli.db_options import Json, Url, parse_moment
from iosfarm.cli.output import print_json, stderr_console
from iosfarm.ir.errors import UsageError

if TYPE_CHECKING:
    from iosfarm.db import PruneReport
    from iosfarm.db.query.filters import Conditions


def prune(
    status: Annotated[str | None, typer.Option(help="Those that are ok, failed, timeout, quarantined, …")] = None,
    older: Annotated[str | None, typer.Option(metavar="AGE|DATE", help="Those measured before: 90d.")] = None,
    device: Annotated[str | None, typer.Option(help="Those of this device: model name or kind.")] = None,
    simulated: Annotated[
        bool | None, typer.Option("--simulated/--real", help="Simulated ones, or measured ones.")
    ] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Those that a newer one with as many samples has replaced.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Give the room back to the disk: the file is written anew.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Delete the measurements that meet every condition. What a schedule in the database rests on stays. Conditions on
    devices and times alone delete plans as well, which cost a GPU little to find again.

    Example: iosfarm db prune --status failed --older 30d --dry-run
    """
    from iosfarm.db import LatencyDatabase

    conditions: Conditions = {
        "status": status,
        "until": parse_moment(older, "--older"),
        "device": device,
        "simulated": simulated,
    }
    freed = 0
    LatencyDatabase(db, readonly=True).close()  # none is made where there is none
    with LatencyDatabase(db, readonly=dry_run) as database:
        found = database.prune(superseded=superseded, dry_run=True, **conditions)
        name = database.name
        if not dry_run and (found.measurements or found.plans):
            if not yes:
                _ask(f"{name}: delete {found.measurements:,} measurements{_with_plans(found)} for good?")
            with stderr_console().status("deleting") as progress:
                found = database.prune(
                    superseded=superseded,
                    report=lambda done: progress.update(f"deleted {done:,} measurements"),
                    **conditions,
                )
        if shrink and not dry_run:
            with stderr_console().status("making the database smaller"):
                freed = database.shrink()
    if as_json:
        print_json({"database": name, "dry_run": dry_run, **asdict(found), "freed": freed})
        return
    done = "would be deleted" if dry_run else "deleted"
    rest = "" if dry_run else f", with {found.stages:,} stages that have none left"
    print(f"{name}: {found.measurements:,} measurements{_with_plans(found)} {done}{rest}")
    if shrink and not dry_run:
        print(f"{name}: {freed / 2**20:,.1f} MiB were given back to the disk")
    elif found.measurements and not dry_run:
        print("the room is used for new rows; --shrink gives it back to the disk", file=sys.stderr)
    if found.kept:
        print(f"{found.kept:,} more stay: schedules rest on them", file=sys.stderr)


def _with_plans(found: PruneReport) -> str:
    return f" and {found.plans:,} plans" if found.plans else ""


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked", hint="add --yes, or look first with --dry-run")
    typer.confirm(question, abort=True, err=True)
