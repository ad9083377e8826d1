"""`iosfarm runs`: what searches did, while they run and afterwards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from iosfarm.cli.db_options import Json, Url
from iosfarm.cli.db_query import plain
from iosfarm.cli.output import print_json, print_table
from iosfarm.ir.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iosfarm.db import RunRow, SearchRow

SILENT = 120.0
"""Seconds without a word after which a run that is called running is most likely dead."""

app = typer.Typer(
    help="List and show runs of `iosfarm search`.",
    epilog="Example: iosfarm runs list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_runs(
    outcome: Annotated[str | None, typer.Option(help="Only running, finished, interrupted or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """List runs, the newest first.

    Example: iosfarm runs list --outcome failed --limit 5
    """
    from iosfarm.db import LatencyDatabase, SearchState

    if outcome is not None and outcome not in list(SearchState):
        raise UsageError(f"no outcome {outcome!r}", hint=f"choose one of {', '.join(SearchState)}")
    with LatencyDatabase(db, readonly=True) as database:
        rows = database.runs(outcome=outcome, limit=limit)
        name = database.name
    if as_json:
        print_json({"database": name, "runs": [plain(row) for row in rows]})
    elif rows:
        columns = ("run", "started (UTC)", "outcome", "took", "models", "devices", "measured", "found", "failed")
        print_table((*columns, "busy", "gap", "host"), [_cells(row) for row in rows])
    else:
        print("no runs yet: `iosfarm search` makes one", file=sys.stderr)


@app.command()
def show(
    run: Annotated[int, typer.Argument(help="Its number, see `iosfarm runs list`.")],
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Show one run: what it was asked, what it did, and its searches.

    Example: iosfarm runs show 7
    """
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(db, readonly=True) as database:
        row = database.run(run)
        searches = database.searches(run_id=run)
        name = database.name
    if as_json:
        print_json({"database": name, "run": plain(row), "searches": [plain(search) for search in searches]})
        return
    summary = row.summary
    facts: list[tuple[str, object]] = [
        ("outcome", _outcome(row)),
        ("started (UTC)", f"{row.started_at:%Y-%m-%d %H:%M:%S}"),
        ("took", _took(row)),
        ("host", row.host),
        ("iosfarm", row.version),
        ("models", ", ".join(row.models)),
        ("devices", ", ".join(row.devices)),
        *((key, value) for key, value in row.settings.items()),
        ("stages", summary.stages),
        ("found in the database", summary.found),
        ("measured", summary.measured),
        ("measured again", _again(searches)),
        *((f"failed: {kind}", count) for kind, count in summary.failed.items()),
        ("devices busy", _percent(summary.busy)),
        ("gap", _percent(summary.gap)),
        ("note", row.note or None),
    ]
    print_table(("what", f"run {row.id}"), [(what, str(value)) for what, value in facts if value is not None])
    if searches:
        print()
        print_table(
            ("search", "model", "state", "started (UTC)", "measured", "again", "found"),
            [
                (
                    s.id,
                    s.model,
                    s.state.value,
                    f"{s.started_at:%H:%M:%S}",
                    s.counts.get("measured"),
                    s.counts.get("checked"),
                    s.counts.get("found"),
                )
                for s in reversed(searches)
            ],
        )


def _cells(row: RunRow) -> tuple[object, ...]:
    return (
        row.id,
        f"{row.started_at:%Y-%m-%d %H:%M}",
        _outcome(row),
        _took(row),
        _few(row.models),
        _few(row.devices),
        row.summary.measured,
        row.summary.found,
        sum(row.summary.failed.values()),
        _percent(row.summary.busy),
        _percent(row.summary.gap),
        row.host,
    )


def _again(searches: Sequence[SearchRow]) -> int | None:
    """Stages that were measured a second time because a schedule rested on them; None: no search has ended yet."""
    counts = [search.counts["checked"] for search in searches if "checked" in search.counts]
    return sum(counts) if counts else None


def _outcome(row: RunRow) -> str:
    if row.outcome == "running" and row.silent > SILENT:
        return f"running? (silent for {row.silent / 60:.0f} min)"
    return row.outcome.value


def _took(row: RunRow) -> str | None:
    if row.finished_at is None:
        return None
    seconds = round((row.finished_at - row.started_at).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
