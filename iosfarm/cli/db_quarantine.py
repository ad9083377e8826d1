"""`iosfarm db quarantine`: what devices have measured that is not to be believed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from iosfarm.cli.db_options import Json, Url, parse_moment
from iosfarm.cli.db_query import device_name, plain
from iosfarm.cli.output import print_json, print_table
from iosfarm.ir.errors import UsageError

app = typer.Typer(
    help="See, flag or believe again what a device has measured.",
    epilog="Example: iosfarm db quarantine list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Device = Annotated[str, typer.Argument(help="Model, kind or key, as `iosfarm db stats` shows them.")]
Instance = Annotated[
    list[str] | None,
    typer.Option("--instance", metavar="NAME=VALUE", help="Of these devices only one, such as node=gpu7. Repeatable."),
]


@app.command("list")
def show(db: Url = None, as_json: Json = False) -> None:
    """List what is not believed, by device and reason.

    Example: iosfarm db quarantine list --json
    """
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(db, readonly=True) as database:
        found, name = database.quarantined(), database.name
    if as_json:
        print_json({"database": name, "quarantined": [plain(item) for item in found]})
        return
    rows = [
        (
            device_name(item.model, item.simulated),
            " ".join(f"{key}={value}" for key, value in item.instance.items()),
            item.measurements,
            f"{item.first:%Y-%m-%d %H:%M}",
            f"{item.last:%Y-%m-%d %H:%M}",
            item.reason,
        )
        for item in found
    ]
    if not rows:
        print("every measurement is believed: nothing is quarantined", file=sys.stderr)
        return
    print_table(("device", "instance", "measurements", "first (UTC)", "last (UTC)", "reason"), rows)


@app.command("set")
def set_(
    device: Device,
    reason: Annotated[str, typer.Option(help="Why; it is kept with each measurement.")],
    instance: Instance = None,
    since: Annotated[str | None, typer.Option(metavar="AGE|DATE", help="Measured since then: 2d.")] = None,
    until: Annotated[str | None, typer.Option(metavar="AGE|DATE", help="Measured before that.")] = None,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Flag what a device has measured: no search uses it any more, and the next ones measure it again.

    Example: iosfarm db quarantine set "NVIDIA H200" --instance node=gpu7 --since 2d --reason "its fan was broken"
    """
    from iosfarm.db import LatencyDatabase

    if not reason.strip():
        raise UsageError("an empty --reason", hint="say why: whoever sees the gap will ask")
    chosen, begin, end = _instance(instance), parse_moment(since, "--since"), parse_moment(until, "--until")
    LatencyDatabase(db, readonly=True).close()  # none is made where there is none
    with LatencyDatabase(db) as database:
        count = database.set_quarantine(device, reason, instance=chosen, since=begin, until=end)
        _tell(database.name, count, "are not believed any more", as_json=as_json)


@app.command("lift")
def lift(device: Device, instance: Instance = None, db: Url = None, as_json: Json = False) -> None:
    """Believe a device again: what was flagged counts as before. What it measured while it was adrift does not.

    Example: iosfarm db quarantine lift "NVIDIA H200" --instance node=gpu7
    """
    from iosfarm.db import LatencyDatabase

    chosen = _instance(instance)
    LatencyDatabase(db, readonly=True).close()
    with LatencyDatabase(db) as database:
        count = database.lift_quarantine(device, instance=chosen)
        _tell(database.name, count, "are believed again", as_json=as_json)


def _instance(texts: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or ()]
    for name, separator, value in pairs:
        if not (name and separator and value):
            raise UsageError(f"--instance {name}{separator}{value}", hint="write NAME=VALUE, such as node=gpu7")
    return {name: value for name, _, value in pairs}


def _tell(name: str, count: int, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"database": name, "measurements": count})
    else:
        print(f"{name}: {count:,} measurements {what}")
