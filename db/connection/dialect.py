"""Everything that SQLite and PostgreSQL do differently. The other modules are written for both."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    Insert,
    QueuePool,
    Select,
    Table,
    Text,
    create_engine,
    event,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from iosfarm.db.connection.arrays import ArrayText, array_text
from iosfarm.db.connection.location import Location, network_file_system
from iosfarm.db.errors import DatabaseUrlError

_WRITES = "iosfarm_writes"
_CACHE = 65_536  # KiB of SQLite's pages that a connection keeps at most
_IMPORT_CACHE = 262_144  # KiB: an import among millions of rows changes pages all over its indexes
_SCHEMA_LOCK = 0x105FA12  # any number, the same in every iosfarm


READERS, KEYS_AT_ONCE = 8, 625
"""Connections that share one look-up of many keys, as many as an engine keeps open, and keys for each statement. In a
large database a key takes some pages from the disk, and readers wait for them side by side.
"""


class Writing(NamedTuple):
    """How an import is shared out."""

    connections: int
    rows: int


WRITING = {"sqlite": Writing(1, 100_000), "postgresql": Writing(2, 20_000)}
"""Connections, and measurements of each transaction. Of SQLite's large ones each writes much of the indexes of medians
and of keys anew, and there is one writer at a time.
"""


_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""Seconds, and milliseconds: after half a minute of silence a server that a network no longer reaches is given up.
The system's own defaults wait for hours for an answer, and for a quarter of an hour for what was sent.
"""


def make_engine(location: Location, *, readonly: bool, timeout: float) -> Engine:
    """An engine that waits at most `timeout` seconds for a lock. Connects to nothing yet.

    Raises:
        DatabaseUrlError: the driver is not installed.
    """
    if location.url.get_backend_name() == "sqlite":
        return _sqlite_engine(location, readonly=readonly, timeout=timeout)
    # A plan made once for any thousand keys, before the tables have statistics, was nine times slower than a look-up's
    # own plan. (`iosfarm.db.bulk` makes an exception.)
    # Compiling a query that takes milliseconds takes longer than the query.
    options = f"-c lock_timeout={max(1, round(timeout * 1000))} -c plan_cache_mode=force_custom_plan -c jit=off"
    if readonly:
        options += " -c default_transaction_read_only=on"
    arguments = {"options": options, "connect_timeout": max(2, round(timeout)), **_ALIVE}
    try:
        # A claim must see what was committed while it waited for a lease, whatever the server's default is.
        return create_engine(
            location.url,
            connect_args=arguments,
            pool_size=READERS,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
        )
    except ModuleNotFoundError as error:
        hint = "`pip install iosfarm[postgres]`"
        raise DatabaseUrlError("the driver psycopg is not installed", where=location.name, hint=hint) from error


@contextmanager
def transaction(engine: Engine, *, write: bool) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises."""
    with engine.connect() as connection:
        prepared = connection.execution_options(**{_WRITES: write})
        with prepared.begin():
            yield prepared


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """INSERT with `on_conflict_do_update` and `on_conflict_do_nothing`, which both databases have."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def insert_or_ignore(connection: Connection, table: Table) -> Insert:
    """INSERT that skips rows which a unique constraint refuses; with RETURNING it returns the new ones only."""
    return upsert(connection, table).on_conflict_do_nothing()


def texts(connection: Connection, values: Sequence[str]) -> ColumnElement[str]:
    """`values` as the column of a table to select from and to join with: one parameter, however many there are."""
    if connection.dialect.name == "sqlite":
        rows = func.json_each(json.dumps(list(values))).table_valued("value", name="texts")
        return cast("ColumnElement[str]", rows.c.value)
    return func.unnest(literal(array_text(values), ArrayText("TEXT")), type_=Text).column_valued("texts")


def fetch(connection: Connection, statement: Select[Any]) -> list[list[Any]]:
    """All rows of a SELECT of integers, texts and times; SQLite's times as it stores them.

    Python's driver of SQLite takes the interpreter's lock for each row, so that readers wait for one another. There it
    is one row: a JSON text of all, which is also read in a fraction of the time.
    """
    if connection.dialect.name != "sqlite":
        return [list(row) for row in connection.execute(statement)]
    rows = func.json_group_array(func.json_array(*statement.subquery().columns))
    found: list[list[Any]] = json.loads(connection.execute(select(rows)).scalar_one())
    return found


def prepare_import(connection: Connection) -> None:
    """Before very many rows are stored."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA cache_size={-_IMPORT_CACHE}")


def lock_schema(connection: Connection) -> None:
    """Until the transaction ends, no other process changes the schema. SQLite's write lock already says so."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _SCHEMA_LOCK})


def use_write_ahead_log(engine: Engine, timeout: float) -> None:
    """Lets readers read while one process writes; the file remembers it. Does nothing on a server or in memory.

    To be called on an empty database only: it changes the file, which might be another program's.
    """
    if engine.dialect.name != "sqlite":
        return
    deadline = time.monotonic() + timeout
    connection = engine.raw_connection()
    try:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself when two processes change the mode of a new file at once.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    finally:
        connection.close()


def database_size(connection: Connection) -> int:
    """Bytes that the whole database takes."""
    if connection.dialect.name == "sqlite":
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def vacuum(engine: Engine, tables: Iterable[str]) -> None:
    """Write the tables anew, without the room of deleted rows; waits for others only as long as for any lock."""
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        if engine.dialect.name == "sqlite":
            # By the driver itself: it must not be in a transaction, nor must the log keep the pages afterwards.
            cast(sqlite3.Connection, raw).execute("VACUUM")
            cast(sqlite3.Connection, raw).execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in tables:
            connection.execute(text(f'VACUUM (FULL, ANALYZE) "{table}"'))


class DatabaseClock(FunctionElement[float]):
    """Seconds since 1970 by the database's own clock, which all its clients share."""

    type = Float()
    inherit_cache = True


@compiles(DatabaseClock, "sqlite")
def _sqlite_clock(element: DatabaseClock, compiler: SQLCompiler, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DatabaseClock, "postgresql")
def _postgresql_clock(element: DatabaseClock, compiler: SQLCompiler, **options: Any) -> str:
    return "extract(epoch FROM clock_timestamp())::float8"


def _sqlite_engine(location: Location, *, readonly: bool, timeout: float) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            _sqlite_uri(location, readonly),
            uri=True,
            timeout=timeout,
            check_same_thread=False,
            isolation_level=None,
        )
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA cache_size={-_CACHE}")  # negative: in KiB
        connection.execute("PRAGMA synchronous=FULL")  # a commit outlives a power cut, not only a killed process
        return connection

    # A database in memory lives as long as its only connection; other threads wait for their turn.
    single = {"pool_size": 1, "max_overflow": 0, "pool_timeout": timeout} if location.path is None else {}
    kept: dict[str, Any] = single or {"pool_size": READERS}
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, **kept)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The lock is taken before anything is read: a transaction that reads first and writes later fails at once,
        # without waiting, when another process wrote in between.
        write = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _sqlite_uri(location: Location, readonly: bool) -> str:
    path = location.path
    if path is None:
        return "file::memory:"
    uri = f"file:{quote(str(path))}"
    if not readonly:
        return f"{uri}?mode=rwc"
    log = path.with_name(path.name + "-wal").exists()
    if log or (os.access(path.parent, os.W_OK) and not network_file_system(path)):
        return f"{uri}?mode=ro"
    # A log cannot be made beside the file, or not locked there, and there is none: nobody is writing to it.
    return f"{uri}?mode=ro&immutable=1"
