"""A user's own SQL, which can read and nothing else: the database itself sees to that."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection

from iosfarm.db.connection import dialect
from iosfarm.db.connection.handle import Handle
from iosfarm.db.errors import translate, translated
from iosfarm.ir.errors import UsageError

LONGEST_VALUE = 64 * 2**20
"""Bytes of one value that SQLite may make up: `randomblob(1e9)` is refused."""

_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_READS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_WRONG = ("0A", "22", "25", "34", "42")  # classes of SQLSTATE: not supported, data, transaction, cursor, syntax


@dataclass(frozen=True)
class SqlResult:
    """What a query returned. complete: False where there were more rows than wanted."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    complete: bool


class Sql(Handle):
    """The method of `LatencyDatabase` for users' own SQL."""

    def sql(self, query: str, *, limit: int = 1000, timeout: float = 10.0) -> SqlResult:
        """The first `limit` rows of one SELECT (or VALUES, or WITH), which may take `timeout` seconds.

        It is executed on a read-only connection, in a transaction that is rolled back; statements that write, attach
        files, change settings or do several things are refused by the database's own means.

        Raises:
            UsageError: it is no such query, is wrong, writes, or takes too long.
        """
        text = query.strip().rstrip(";").strip()
        if not text:
            raise UsageError("an empty query", hint="write a SELECT, such as SELECT * FROM latency LIMIT 5")
        # Whatever this handle may do, this connection may read.
        engine = dialect.make_engine(self._location, readonly=True, timeout=self.timeout)
        if self._location.in_memory:
            engine = self._connected()
        try:
            with translated(self.name), dialect.transaction(engine, write=False) as connection:
                if engine.dialect.name == "sqlite":
                    return _sqlite(connection, text, limit, timeout)
                return _postgres(connection, text, limit, timeout, self.name)
        finally:
            if not self._location.in_memory:
                engine.dispose()


def _sqlite(connection: Connection, text: str, limit: int, timeout: float) -> SqlResult:
    raw = cast(sqlite3.Connection, connection.connection.driver_connection)
    with _guarded(raw, timeout) as refused:
        try:
            cursor = raw.execute(text)
            if cursor.description is None:
                raise UsageError("this is no query", hint="write a SELECT")
            columns = tuple(item[0] for item in cursor.description)
            rows = cursor.fetchmany(limit + 1)
        except sqlite3.Warning as error:
            raise UsageError(f"the query is refused: {error}", hint="write one SELECT") from error
        except sqlite3.ProgrammingError as error:
            raise UsageError(f"the query is wrong: {error}", hint="write one SELECT without parameters") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_INTERRUPT:
                hint = "ask for less, or give more time with --timeout"
                raise UsageError(f"the query took longer than {timeout:g} s", hint=hint) from error
            if code == sqlite3.SQLITE_AUTH or refused:
                raise UsageError("the query is refused: it may only read", hint="write a SELECT") from error
            if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_MISMATCH):
                raise UsageError(f"the query is wrong: {error}") from error
            raise
    return SqlResult(columns, tuple(rows[:limit]), len(rows) <= limit)


@contextmanager
def _guarded(raw: sqlite3.Connection, timeout: float) -> Iterator[list[int]]:
    """Nothing but reading, for so many seconds. Yields the actions that were refused."""
    refused: list[int] = []
    deadline = time.monotonic() + timeout

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _READS and not (action == sqlite3.SQLITE_FUNCTION and second == "load_extension"):
            return sqlite3.SQLITE_OK
        refused.append(action)
        return sqlite3.SQLITE_DENY

    longest = raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    raw.execute("PRAGMA query_only=ON")
    raw.set_authorizer(authorize)
    raw.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
    try:
        yield refused
    finally:
        raw.set_progress_handler(None, 0)
        raw.set_authorizer(None)
        raw.execute("PRAGMA query_only=OFF")
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)


def _postgres(connection: Connection, text: str, limit: int, timeout: float, name: str) -> SqlResult:
    import psycopg

    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    # A cursor is only for what reads, even where a read-only transaction would allow more (COPY … TO PROGRAM); a
    # prepared statement is only one.
    with raw.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {max(1, round(timeout * 1000))}".encode())
        cursor.execute(b"SET TRANSACTION READ ONLY")
        try:
            cursor.execute(b"DECLARE iosfarm_sql NO SCROLL CURSOR FOR " + text.encode(), prepare=True)
            cursor.execute(f"FETCH {limit + 1} FROM iosfarm_sql".encode())
            columns = tuple(item.name for item in cursor.description or ())
            rows = cursor.fetchall()
        except psycopg.errors.QueryCanceled as error:
            hint = "ask for less, or give more time with --timeout"
            raise UsageError(f"the query took longer than {timeout:g} s", hint=hint) from error
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if state.startswith(_WRONG):
                line = str(error).splitlines()[0]
                raise UsageError(f"the query is wrong or may not be asked: {line}", hint="write one SELECT") from error
            raise translate(error, name) from error
    return SqlResult(columns, tuple(map(tuple, rows[:limit])), len(rows) <= limit)
