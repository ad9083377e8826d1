"""INSERT of many rows at once: where SQLite and PostgreSQL each have a way that takes a fraction of the time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, func, literal, select
from sqlalchemy.dialects import postgresql

from iosfarm.db import tables
from iosfarm.db.connection.arrays import ArrayText, array_text
from iosfarm.db.connection.dialect import insert_or_ignore

_STATEMENT = 10_000  # rows that PostgreSQL is given at once: of 100,000, each took it nearly twice as long
_MOMENT = len("2026-01-01 00:00:00.000000")


def insert_rows(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """INSERT of many rows in one statement, values in the order of `names`; rows that are there already are skipped.

    Returns how many are new.
    """
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        return _insert_into_sqlite(connection, table, names, rows)
    with _references_planned_once(connection):
        statements = _postgresql_inserts(connection, table, names, rows)
        return sum(connection.execute(s, execution_options={"preserve_rowcount": True}).rowcount for s in statements)


def insert_keyed(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> dict[str, int]:
    """As `insert_rows`, of a table whose rows have a `key`; returns ids of new rows as far as the database tells them.

    SQLite tells none of many rows.
    """
    if not rows or connection.dialect.name == "sqlite":
        insert_rows(connection, table, names, rows)
        return {}
    with _references_planned_once(connection):
        statements = _postgresql_inserts(connection, table, names, rows)
        told = [connection.execute(s.returning(table.c.key, table.c.id)) for s in statements]
        return {key: number for new in told for key, number in new}


@contextmanager
def _references_planned_once(connection: Connection) -> Iterator[None]:
    """Each row that refers to others is checked by a query of the server's own. Planning it for each row anew, as
    `make_engine` asks for, takes longer than all else; a plan that is kept must not be one that reads a whole table
    because that was small when it was made.
    """
    connection.execute(_settings("auto", "off"))
    yield
    connection.execute(_settings("force_custom_plan", "on"))  # after an error the transaction's end does it


def _settings(plans: str, scans: str) -> Select[tuple[str, str]]:
    """Until the transaction ends."""
    return select(func.set_config("plan_cache_mode", plans, True), func.set_config("enable_seqscan", scans, True))


def _postgresql_inserts(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Iterator[postgresql.Insert]:
    # One array for each column: a server plans a statement of a thousand rows of parameters far longer.
    types = [table.c[name].type.compile(connection.dialect) for name in names]
    for first in range(0, len(rows), _STATEMENT):
        arrays = map(array_text, zip(*rows[first : first + _STATEMENT], strict=True))
        columns = [func.unnest(literal(text, ArrayText(of))) for text, of in zip(arrays, types, strict=True)]
        yield postgresql.insert(table).from_select(list(names), select(*columns)).on_conflict_do_nothing()


def _insert_into_sqlite(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> int:
    """By the driver itself: what SQLAlchemy does for each row takes longer than SQLite needs to store it."""
    compiled = insert_or_ignore(connection, table).values(dict.fromkeys(names)).compile(dialect=connection.dialect)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    # In the order of the table.
    encoded = [_encoded(connection, table.c[name], columns[name]) for name in compiled.positiontup or []]
    return connection.exec_driver_sql(compiled.string, list(zip(*encoded, strict=True))).rowcount


def _encoded(connection: Connection, column: Column[Any], values: Iterable[Any]) -> Iterable[Any]:
    """Values of a column as SQLite stores them."""
    if isinstance(column.type, tables.UtcDateTime):
        return map(_moment, values)  # as SQLAlchemy writes it, in a third of the time
    encode = column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    return values if encode is None else map(encode, values)


def _moment(value: datetime | None) -> str | None:
    """UTC without a mark."""
    return None if value is None else value.astimezone(UTC).isoformat(" ", "microseconds")[:_MOMENT]
