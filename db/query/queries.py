"""Questions about what was measured."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from sqlalchemy import Column, Connection, Select, func, select
from sqlalchemy import cast as sql_cast

from iosfarm.db import tables
from iosfarm.db.connection.dialect import texts
from iosfarm.db.connection.handle import Handle
from iosfarm.db.query.filters import Conditions, Selection, select_by
from iosfarm.ir.device import Fact
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import percentile
from iosfarm.ir.summary import OperatorSummary

if TYPE_CHECKING:
    import pandas
    import pyarrow

PROBES = 500
"""Measurements that are looked at to tell what share of all meets the conditions. That is half of a query's time: with
a thousand, PostgreSQL takes 20 ms where it takes 15. Where the share is near the bound, both ways cost about the same.
"""


@dataclass(frozen=True)
class QueryRow:
    """One measurement and what was measured. Latencies in seconds, None where there are no samples.

    id: negative for a measurement of an overlay. device: model name. simulated: an analytic model said so, nothing was
    measured. operators: in the stage's order. environment: its hard and soft fields.
    """

    id: int
    stage_key: str
    device: str
    device_kind: str
    simulated: bool
    environment_key: str
    environment: Mapping[str, Fact]
    status: str
    reason: str
    strategy: str
    dtype: str
    layout: str
    batch: int
    groups: int
    units: int
    flops: int
    bytes_moved: int
    operators: tuple[OperatorSummary, ...]
    median: float | None
    mad: float | None
    minimum: float | None
    p10: float | None
    p90: float | None
    n: int
    worker: str
    attempt: int
    measured_at: datetime
    search_id: int | None


_m, _s, _d, _e = tables.measurement.c, tables.stage.c, tables.device.c, tables.environment.c
_operator = tables.stage_operator.c

_COLUMNS: dict[str, Column[Any]] = {
    "id": _m.id,
    "stage_key": _s.key,
    "device": _d.model,
    "device_kind": _d.kind,
    "simulated": _d.simulated,
    "environment_key": _e.key,
    "status": _m.status,
    "reason": _m.reason,
    "strategy": _s.strategy,
    "dtype": _s.dtype,
    "layout": _s.layout,
    "batch": _s.batch,
    "groups": _s.groups,
    "units": _s.units,
    "flops": _s.flops,
    "bytes_moved": _s.bytes_moved,
    "median": _m.median,
    "mad": _m.mad,
    "minimum": _m.min,
    "p90": _m.p90,
    "n": _m.n,
    "worker": _m.worker,
    "attempt": _m.attempt,
    "measured_at": _m.measured_at,
    "search_id": _m.search_id,
}

ORDERS = tuple(name for name in _COLUMNS if name not in ("reason", "worker"))
"""What a query can be ordered by."""


class Queries(Handle):
    """The methods of `LatencyDatabase` that list measurements."""

    def query(
        self,
        *,
        order_by: str = "measured_at",
        descending: bool = True,
        limit: int | None = None,
        **conditions: Unpack[Conditions],
    ) -> list[QueryRow]:
        """The measurements that meet every given condition (see `Conditions`); also those without samples.

        Those of an overlay are among them.

        Raises:
            UsageError: unknown `order_by`, a negative limit, or a condition that cannot be.
        """
        if order_by not in ORDERS:
            raise UsageError(f"cannot order by {order_by!r}", hint=f"choose one of {', '.join(ORDERS)}")
        if limit is not None and limit < 0:
            raise UsageError(f"a limit of {limit} rows", hint="give 0 or more")
        rows: list[QueryRow] = []
        for handle, own in self._layers():
            with handle._transaction(write=False) as connection:
                rows += _query(connection, conditions, order_by, descending, limit, own=own)
        return rows if self.overlay is None else _merged(rows, order_by, descending)[:limit]

    def query_arrow(
        self,
        *,
        order_by: str = "measured_at",
        descending: bool = True,
        limit: int | None = None,
        **conditions: Unpack[Conditions],
    ) -> pyarrow.Table:
        """As `query`, as an Arrow table: operators and environment as JSON text.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        from iosfarm.db.query.frames import arrow_table

        return arrow_table(self.query(order_by=order_by, descending=descending, limit=limit, **conditions))

    def query_pandas(
        self,
        *,
        order_by: str = "measured_at",
        descending: bool = True,
        limit: int | None = None,
        **conditions: Unpack[Conditions],
    ) -> pandas.DataFrame:
        """As `query_arrow`, as a pandas frame.

        Raises:
            MissingExtraError: pandas or pyarrow is not installed.
        """
        from iosfarm.db.query.frames import data_frame

        return data_frame(self.query(order_by=order_by, descending=descending, limit=limit, **conditions))


def _query(
    connection: Connection, conditions: Conditions, order_by: str, descending: bool, limit: int | None, *, own: bool
) -> list[QueryRow]:
    selection = select_by(connection, conditions)
    ids = _in_order(connection, selection, order_by, descending, limit)
    columns = [column.label(name) for name, column in _COLUMNS.items()]
    statement = (
        select(*columns, _s.id.label("stage_id"), _m.samples, _e.hard, _e.soft)
        .join_from(tables.measurement, tables.stage)
        .join(tables.device)
        .join(tables.environment)
        .where(_m.id == sql_cast(texts(connection, list(map(str, ids))), tables.BigId))
    )
    found = {row.id: row for row in connection.execute(statement)}
    operators = stage_operators(connection, {row.stage_id for row in found.values()})
    return [_row(found[number], operators, own) for number in ids]


def _in_order(
    connection: Connection, selection: Selection, order_by: str, descending: bool, limit: int | None
) -> list[int]:
    """Numbers of the measurements, those without a value last: nothing else is read before it is known which."""
    column = _COLUMNS[order_by]
    few = column.table is not tables.measurement or (selection.on_stages and _few(connection, selection, limit))
    if not column.nullable:
        return list(connection.scalars(_ids(selection, order_by, descending, limit, few)))
    # Asked for apart: PostgreSQL's index has them first when it is read backwards, and would not be used.
    told = replace(selection, measured=(*selection.measured, column.is_not(None)))
    found = list(connection.scalars(_ids(told, order_by, descending, limit, few)))
    if limit is None or len(found) < limit:
        rest = None if limit is None else limit - len(found)
        untold = replace(selection, measured=(*selection.measured, column.is_(None)))
        found += connection.scalars(_ids(untold, "id", descending, rest, few))
    return found


def _ids(selection: Selection, order_by: str, descending: bool, limit: int | None, few: bool) -> Select[Any]:
    column = _COLUMNS[order_by]
    statement = select(_m.id, column.label("value"))
    for table in (tables.stage, tables.device, tables.environment):
        if column.table is table:
            statement = statement.join(table)
    if few:
        # All of them, then sorted; told apart so that the database does not go through all measurements in order.
        found = statement.where(*selection.found()).cte("found").prefix_with("MATERIALIZED")
        number, value = found.c.id, found.c.value
        statement = select(number)
    else:
        statement = select(_m.id).where(*selection.checked())
        number, value = _m.id, column
    order = [value.desc() if descending else value.asc()]
    if order_by != "id":
        order.append(number.desc() if descending else number.asc())
    return statement.order_by(*order).limit(limit)


def _few(connection: Connection, selection: Selection, limit: int | None) -> bool:
    """Whether to look for the stages first: the rows to sort then are fewer than those to go through in order until
    `limit` of them meet the conditions.
    """
    last = connection.scalar(select(func.max(_m.id))) or 0
    if limit is None or last <= PROBES:
        return True
    # By chance, not evenly: devices that measure in turns have every so-manieth row.
    chance = random.Random(last)
    probes = texts(connection, [str(chance.randint(1, last)) for _ in range(PROBES)])
    wanted = _m.id.in_(select(sql_cast(probes, tables.BigId)))
    share = connection.scalar(select(func.count()).where(wanted, *selection.checked())) or 0
    return share == 0 or limit / share * PROBES > last * share / PROBES


def stage_operators(connection: Connection, stage_ids: set[int]) -> dict[int, tuple[OperatorSummary, ...]]:
    """The operators of stages, in order, by the stage's number."""
    found: dict[int, list[OperatorSummary]] = {number: [] for number in stage_ids}
    columns = [_operator[f.name] for f in fields(OperatorSummary)]
    wanted = sql_cast(texts(connection, list(map(str, stage_ids))), tables.BigId)
    statement = select(_operator.stage_id, *columns).where(_operator.stage_id == wanted)
    for number, *values in connection.execute(statement.order_by(_operator.stage_id, _operator.position)):
        found[number].append(OperatorSummary(*values))
    return {number: tuple(operators) for number, operators in found.items()}


def _row(row: Any, operators: Mapping[int, tuple[OperatorSummary, ...]], own: bool) -> QueryRow:
    values = {name: getattr(row, name) for name in _COLUMNS}
    samples = json.loads(row.samples)
    return QueryRow(
        **{**values, "id": row.id if own else -row.id},
        operators=operators[row.stage_id],
        environment={**json.loads(row.soft), **json.loads(row.hard)},
        p10=percentile(samples, 0.1) if samples else None,
    )


def _merged(rows: list[QueryRow], order_by: str, descending: bool) -> list[QueryRow]:
    """Rows of several databases in one order; those without a value last."""

    def key(row: QueryRow) -> Any:
        return getattr(row, order_by)

    told = sorted((row for row in rows if key(row) is not None), key=key, reverse=descending)
    return told + [row for row in rows if key(row) is None]
