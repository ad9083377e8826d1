"""`iosfarm db`: what the latency database holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from iosfarm.cli import db_devices, db_exchange, db_prune, db_quarantine, db_query
from iosfarm.cli.db_options import Json, Url
from iosfarm.cli.db_query import device_name, plain
from iosfarm.cli.output import print_json, print_table

if TYPE_CHECKING:
    from iosfarm.db import DatabaseStatistics

app = typer.Typer(
    help="Query, count, compare, copy and clean the latency database.",
    epilog="Example: iosfarm db stats",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command("query")(db_query.query)
app.command("coverage")(db_devices.coverage)
app.command("compare")(db_devices.compare)
app.command("verify")(db_devices.verify)
app.command("export")(db_exchange.export)
app.command("import")(db_exchange.import_file)
app.command("merge")(db_exchange.merge)
app.command("prune")(db_prune.prune)
app.add_typer(db_quarantine.app, name="quarantine")


@app.command()
def stats(db: Url = None, as_json: Json = False) -> None:
    """Count what the database holds, device by device.

    Example: iosfarm db stats --json
    """
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(db, readonly=True) as database:
        found = database.stats()
    if as_json:
        print_json(plain(found))
        return
    _print_totals(found)
    if found.devices:
        print()
        _print_devices(found)


@app.command()
def migrate(db: Url = None, as_json: Json = False) -> None:
    """Create a database, or bring one of an older iosfarm to this version's schema.

    Example: iosfarm db migrate --db postgresql://farm@db.example.org/iosfarm
    """
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(db) as database:
        before, after = database.migrate()
        name = database.name
    if as_json:
        print_json({"database": name, "before": before, "after": after})
    elif not before:
        print(f"{name}: created with schema {after}")
    elif before == after:
        print(f"{name}: schema {after}, up to date")
    else:
        print(f"{name}: schema {before} is now {after}")


def _print_totals(found: DatabaseStatistics) -> None:
    held = {**{f"measurements {name}": n for name, n in found.by_status.items()}, "stages": found.stages}
    held |= {"environments": found.environments, "searches": found.searches}
    held |= {"schedules": found.schedules, "plans": found.plans}
    held |= {f"leases {name}": n for name, n in found.leases.items()}
    title = f"{found.database}: schema {found.schema_version}, {found.size / 2**20:,.1f} MiB"
    print_table(("what", "rows"), list(held.items()), title)


def _print_devices(found: DatabaseStatistics) -> None:
    print_table(
        ("device", "kind", "instances", "stages", "measurements", "usable", "last (UTC)"),
        [
            (
                device_name(device.model, device.simulated),
                device.kind,
                device.instances,
                device.stages,
                device.measurements,
                device.usable,
                f"{device.last:%Y-%m-%d %H:%M}" if device.last else None,
            )
            for device in found.devices
        ],
    )
