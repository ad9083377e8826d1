"""`iosfarm db query`: measurements by any condition, and a user's own SQL."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iosfarm.cli.db_options import Json, Overlay, Url, parse_facts, parse_moment, parse_range, parse_sizes
from iosfarm.cli.output import print_json, print_table
from iosfarm.ir.errors import UsageError

if TYPE_CHECKING:
    from iosfarm.db import LatencyDatabase, QueryRow
    from iosfarm.db.query.filters import Conditions
    from iosfarm.ir.summary import OperatorSummary

FORMATS = ("table", "csv", "json", "parquet")

MOST_OPERATORS = 2
"""Operators of a stage that a table names."""

_RANGE = "N|A..B"


def query(
    op: Annotated[str | None, typer.Option(help="Stages with this operator, such as conv2d.")] = None,
    channels: Annotated[str | None, typer.Option(metavar=_RANGE, help="Its channels, those in or those out.")] = None,
    in_channels: Annotated[str | None, typer.Option(metavar=_RANGE, help="Its input channels.")] = None,
    out_channels: Annotated[str | None, typer.Option(metavar=_RANGE, help="Its output channels.")] = None,
    height: Annotated[str | None, typer.Option(metavar=_RANGE, help="The height of its input.")] = None,
    width: Annotated[str | None, typer.Option(metavar=_RANGE, help="The width of its input.")] = None,
    shape: Annotated[str | None, typer.Option(metavar="NxCxHxW", help="The shape of its input.")] = None,
    kernel: Annotated[str | None, typer.Option(metavar="K|HxW", help="Its kernel.")] = None,
    stride: Annotated[str | None, typer.Option(metavar=_RANGE, help="Its stride.")] = None,
    device: Annotated[str | None, typer.Option(help="Model name, or kind: cpu, cuda, sim:v100.")] = None,
    driver: Annotated[str | None, typer.Option(metavar="VERSION", help="The device's driver, such as 535.*")] = None,
    library: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VERSION", help="A library or other fact of the environment: torch=2.13*"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Measured for this network, or used by its schedules.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision, such as float32.")] = None,
    layout: Annotated[str | None, typer.Option(help="nchw or nhwc.")] = None,
    batch: Annotated[str | None, typer.Option(metavar=_RANGE, help="Batch size.")] = None,
    units: Annotated[str | None, typer.Option(metavar=_RANGE, help="Units of the stage.")] = None,
    groups: Annotated[str | None, typer.Option(metavar=_RANGE, help="Groups side by side.")] = None,
    strategy: Annotated[str | None, typer.Option(help="concurrent, merge or mixed.")] = None,
    status: Annotated[str | None, typer.Option(help="ok, infeasible, failed, timeout or quarantined.")] = None,
    stage: Annotated[str | None, typer.Option(metavar="KEY", help="The stage's key, or its first digits.")] = None,
    simulated: Annotated[
        bool | None, typer.Option("--simulated/--real", help="Only simulated latencies, or only measured ones.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="AGE|DATE", help="Measured since: 7d, 12h, 2026-05-31.")] = None,
    until: Annotated[str | None, typer.Option(metavar="AGE|DATE", help="Measured before.")] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by: measured_at, median, flops, batch, …")] = "measured_at",
    ascending: Annotated[bool, typer.Option("--ascending", help="The smallest or oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many rows.")] = 50,
    sql: Annotated[
        str | None, typer.Option(metavar="SELECT", help="A query of your own, instead of conditions; it can only read.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that --sql may take.")] = 10.0,
    output: Annotated[
        str | None, typer.Option("--format", metavar="|".join(FORMATS), help="How to write the rows. [default: table]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to a file; its ending says the format.")
    ] = None,
    db: Url = None,
    overlay: Overlay = None,
    as_json: Json = False,
) -> None:
    """List measurements that meet every given condition, the newest first. Conditions on an operator are met by one.

    Example: iosfarm db query --op conv2d --kernel 3 --channels 64..256 --sort median --ascending
    """
    from iosfarm.db import LatencyDatabase

    kind = _format(output, out, as_json)
    conditions: Conditions = {
        "op": op,
        "channels": parse_range(channels, "--channels"),
        "in_channels": parse_range(in_channels, "--in-channels"),
        "out_channels": parse_range(out_channels, "--out-channels"),
        "height": parse_range(height, "--height"),
        "width": parse_range(width, "--width"),
        "shape": parse_sizes(shape, "--shape", "NxCxHxW"),  # type: ignore[typeddict-item]
        "kernel": parse_sizes(kernel, "--kernel", "HxW"),  # type: ignore[typeddict-item]
        "stride": parse_range(stride, "--stride"),
        "device": device,
        "facts": parse_facts(driver, library or []) or None,
        "model": model,
        "dtype": dtype,
        "layout": layout,
        "batch": parse_range(batch, "--batch"),
        "units": parse_range(units, "--units"),
        "groups": parse_range(groups, "--groups"),
        "strategy": strategy,
        "status": status,
        "stage_key": stage,
        "simulated": simulated,
        "since": parse_moment(since, "--since"),
        "until": parse_moment(until, "--until"),
    }
    if sql is not None and any(value is not None for value in conditions.values()):
        raise UsageError("--sql together with conditions", hint="write the conditions into the query")
    with LatencyDatabase(db, readonly=True, overlay=overlay) as database:
        if sql is not None:
            _own_sql(database, sql, limit, timeout, kind, out)
            return
        rows = database.query(order_by=sort, descending=not ascending, limit=limit, **conditions)
        name = database.name
    if kind == "table":
        if rows:
            _print_measurements(rows)
        else:
            print("no measurement meets these conditions; `iosfarm db stats` shows what there is", file=sys.stderr)
    elif kind == "json":
        _write_json({"database": name, "measurements": [plain(row) for row in rows]}, out)
    elif kind == "parquet":
        from iosfarm.cli.db_files import write_parquet

        write_parquet(rows, out)
    else:
        records = [plain(row) for row in rows]
        columns = _csv_columns()
        _write_csv(columns, [[_csv_cell(record[c]) for c in columns] for record in records], out)
    _tell_rows(len(rows), len(rows) < limit, limit, out)


def _own_sql(database: LatencyDatabase, text: str, limit: int, timeout: float, kind: str, out: Path | None) -> None:
    if kind == "parquet":
        raise UsageError("--sql does not write Parquet", hint="use --format csv or json")
    result = database.sql(text, limit=limit, timeout=timeout)
    rows = [[_sql_cell(value) for value in row] for row in result.rows]
    if kind == "json":
        _write_json({"database": database.name, "columns": result.columns, "rows": rows}, out)
    elif kind == "csv":
        _write_csv(result.columns, rows, out)
    elif rows:
        print_table(result.columns, rows)
    else:
        print("no rows", file=sys.stderr)
    _tell_rows(len(rows), result.complete, limit, out)


def _tell_rows(count: int, complete: bool, limit: int, out: Path | None) -> None:
    """On stderr: where they went, and whether there may be more."""
    if out is not None:
        print(f"wrote {count:,} row{'' if count == 1 else 's'} to {out}", file=sys.stderr)
    if not complete:
        print(f"stopped at {limit} rows: --limit shows more", file=sys.stderr)


def _format(output: str | None, out: Path | None, as_json: bool) -> str:
    if output is not None and output not in FORMATS:
        raise UsageError(f"no format {output!r}", hint=f"choose one of {', '.join(FORMATS)}")
    ending = out.suffix.removeprefix(".").lower() if out is not None else None
    chosen = output or ("json" if as_json else ending or "table")
    if as_json and chosen != "json":
        raise UsageError(f"--json and --format {chosen}", hint="leave one of them out")
    if chosen not in FORMATS:
        raise UsageError(f"{out}: no format {chosen!r}", hint="name the format with --format csv, json or parquet")
    if out is not None and chosen == "table":
        raise UsageError("a table is for the terminal", hint="write --format csv, json or parquet")
    return chosen


def _write_json(document: object, out: Path | None) -> None:
    if out is None:
        print_json(document)
        return
    import json

    from iosfarm.cli.db_files import writing

    with writing(out) as path:
        path.write_text(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _write_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]], out: Path | None) -> None:
    import csv

    from iosfarm.cli.db_files import writing

    if out is None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        return
    with writing(out) as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _csv_columns() -> list[str]:
    from dataclasses import fields

    from iosfarm.db import QueryRow

    return [field.name for field in fields(QueryRow)]


def _csv_cell(value: Any) -> Any:
    import json

    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    # A spreadsheet takes a cell that begins so for a formula; a worker's last words may.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _sql_cell(value: Any) -> Any:
    """As JSON, CSV and a table can show it."""
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON can hold it."""
    from dataclasses import asdict
    from datetime import datetime

    def converted(item: Any) -> Any:
        if isinstance(item, datetime):
            return item.isoformat()
        if isinstance(item, dict):
            return {key: converted(inner) for key, inner in item.items()}
        return [converted(inner) for inner in item] if isinstance(item, list | tuple) else item

    found: dict[str, Any] = converted(asdict(value))
    return found


def _print_measurements(rows: list[QueryRow]) -> None:
    titles = ("stage", "operators", "strategy", "device", "dtype", "batch")
    numbers = ("median ms", "p10 ms", "p90 ms", "samples")
    print_table(
        (*titles, *numbers, "status", "measured (UTC)"),
        [
            (
                row.stage_key[:10],
                _operators(row.operators),
                row.strategy,
                device_name(row.device, row.simulated),
                row.dtype,
                row.batch,
                *map(milliseconds, (row.median, row.p10, row.p90)),
                row.n,
                f"{row.status}: {row.reason}" if row.reason else row.status,
                f"{row.measured_at:%Y-%m-%d %H:%M}",
            )
            for row in rows
        ],
    )


def _operators(operators: Sequence[OperatorSummary]) -> str:
    """The first few: a stage can hold dozens, and `--json` has them all."""
    more = f" and {len(operators) - MOST_OPERATORS} more" if len(operators) > MOST_OPERATORS else ""
    return ", ".join(map(_operator, operators[:MOST_OPERATORS])) + more


def _operator(operator: OperatorSummary) -> str:
    """`conv2d 3x3 64→96`."""
    words = operator.kind
    if operator.kernel_height is not None:
        words += f" {operator.kernel_height}x{operator.kernel_width}"
    if operator.out_channels is not None and operator.in_channels != operator.out_channels:
        words += f" {operator.in_channels}→{operator.out_channels}"
    return words


def device_name(model: str, simulated: bool) -> str:
    """A device as tables show it: what a model of a device says is never taken for a measurement."""
    return f"{model} (simulated)" if simulated else model


def milliseconds(seconds: float | None) -> float | None:
    """As tables show latencies."""
    return None if seconds is None else seconds * 1e3
