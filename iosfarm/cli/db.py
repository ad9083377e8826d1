"""`iosfarm db`: what the latency database holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iosfarm.cli.output import print_json, print_table
from iosfarm.ir.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iosfarm.db import DatabaseStatistics, QueryRow
    from iosfarm.ir.summary import OperatorSummary

MOST_OPERATORS = 2
"""Operators of a stage that a table names."""

app = typer.Typer(
    help="Query, count and migrate the latency database.",
    epilog="Example: iosfarm db stats",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Url = Annotated[
    str | None,
    typer.Option("--db", metavar="URL", help="File or database URL. [default: $IOSFARM_DB, else the user's own]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@app.command()
def query(
    op: Annotated[str | None, typer.Option(help="Stages with this operator, such as conv2d.")] = None,
    in_channels: Annotated[int | None, typer.Option(help="Input channels of that operator.")] = None,
    out_channels: Annotated[int | None, typer.Option(help="Output channels of that operator.")] = None,
    kernel: Annotated[str | None, typer.Option(metavar="K|HxW", help="Kernel of that operator.")] = None,
    stride: Annotated[int | None, typer.Option(help="Stride of that operator.")] = None,
    device: Annotated[str | None, typer.Option(help="Model name, or kind: cpu, cuda, sim:v100.")] = None,
    model: Annotated[str | None, typer.Option(help="Measured for this network, or used by its schedules.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision, such as float32.")] = None,
    layout: Annotated[str | None, typer.Option(help="nchw or nhwc.")] = None,
    batch: Annotated[int | None, typer.Option(help="Batch size.")] = None,
    strategy: Annotated[str | None, typer.Option(help="concurrent, merge or mixed.")] = None,
    status: Annotated[str | None, typer.Option(help="ok, infeasible, failed, timeout or quarantined.")] = None,
    simulated: Annotated[
        bool | None, typer.Option("--simulated/--real", help="Only simulated latencies, or only measured ones.")
    ] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by: measured_at, median, flops, batch, …")] = "measured_at",
    ascending: Annotated[bool, typer.Option("--ascending", help="The smallest or oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many rows.")] = 50,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """List measurements that meet every given condition, the newest first.

    Example: iosfarm db query --op conv2d --kernel 3 --device "NVIDIA H200" --sort median --ascending
    """
    from iosfarm.db import LatencyDatabase
    from iosfarm.ir.measurement import Status

    if status is not None and status not in list(Status):
        raise UsageError(f"no status {status!r}", hint=f"choose one of {', '.join(Status)}")
    with LatencyDatabase(db, readonly=True) as database:
        rows = database.query(
            op=op,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=_kernel(kernel),
            stride=stride,
            device=device,
            model=model,
            dtype=dtype,
            layout=layout,
            batch=batch,
            strategy=strategy,
            status=status,
            simulated=simulated,
            order_by=sort,
            descending=not ascending,
            limit=limit,
        )
        if as_json:
            print_json({"database": database.name, "measurements": [_plain(row) for row in rows]})
        elif rows:
            _print_measurements(rows)
        else:
            print("no measurement meets these conditions; `iosfarm db stats` shows what there is", file=sys.stderr)
        if len(rows) == limit:
            print(f"stopped at {limit} rows: --limit shows more", file=sys.stderr)


@app.command()
def stats(db: Url = None, as_json: Json = False) -> None:
    """Count what the database holds, device by device.

    Example: iosfarm db stats --json
    """
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(db, readonly=True) as database:
        found = database.stats()
    if as_json:
        print_json(_plain(found))
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


def _kernel(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise UsageError(f"--kernel {text}: not a kernel", hint="write 3 or 1x7 (height x width)")
    height, width = int(sides[0]), int(sides[-1])
    return height, width


def _plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON can hold it."""
    from dataclasses import asdict
    from datetime import datetime

    def converted(item: Any) -> Any:
        if isinstance(item, datetime):
            return item.isoformat()
        if isinstance(item, dict):
            return {key: converted(inner) for key, inner in item.items()}
        return [converted(inner) for inner in item] if isinstance(item, list | tuple) else item

    plain: dict[str, Any] = converted(asdict(value))
    return plain


def _operators(operators: Sequence[OperatorSummary]) -> str:
    """The first few: a stage can hold dozens, and `--json` has them all."""
    more = f" and {len(operators) - MOST_OPERATORS} more" if len(operators) > MOST_OPERATORS else ""
    return ", ".join(map(_operator, operators[:MOST_OPERATORS])) + more


def _print_measurements(rows: list[QueryRow]) -> None:
    titles = ("stage", "operators", "strategy", "device", "dtype", "batch")
    numbers = ("median ms", "MAD ms", "p90 ms", "samples")
    print_table(
        (*titles, *numbers, "status", "measured (UTC)"),
        [
            (
                row.stage_key[:10],
                _operators(row.operators),
                row.strategy,
                _device(row.device, row.simulated),
                row.dtype,
                row.batch,
                *map(_milliseconds, (row.median, row.mad, row.p90)),
                row.n,
                f"{row.status}: {row.reason}" if row.reason else row.status,
                f"{row.measured_at:%Y-%m-%d %H:%M}",
            )
            for row in rows
        ],
    )


def _print_totals(found: DatabaseStatistics) -> None:
    held = {**{f"measurements {name}": n for name, n in found.by_status.items()}, "stages": found.stages}
    held |= {"environments": found.environments, "searches": found.searches, "schedules": found.schedules}
    held |= {f"leases {name}": n for name, n in found.leases.items()}
    title = f"{found.database}: schema {found.schema_version}, {found.size / 2**20:,.1f} MiB"
    print_table(("what", "rows"), list(held.items()), title)


def _print_devices(found: DatabaseStatistics) -> None:
    print_table(
        ("device", "kind", "instances", "stages", "measurements", "usable", "last (UTC)"),
        [
            (
                _device(device.model, device.simulated),
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


def _device(model: str, simulated: bool) -> str:
    return f"{model} (simulated)" if simulated else model


def _operator(operator: OperatorSummary) -> str:
    """`conv2d 3x3 64→96`."""
    words = operator.kind
    if operator.kernel_height is not None:
        words += f" {operator.kernel_height}x{operator.kernel_width}"
    if operator.out_channels is not None and operator.in_channels != operator.out_channels:
        words += f" {operator.in_channels}→{operator.out_channels}"
    return words


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
