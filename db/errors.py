"""What can go wrong with a database, told in one line. Failures are told apart by their codes, not by their words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError

from iosfarm.ir.errors import IosfarmError, UsageError


class DatabaseError(IosfarmError):
    """The latency database cannot do what was asked. What was recorded before stays recorded."""


class TransientDatabaseError(DatabaseError):
    """The same call may succeed later: the server restarts, the connection broke, a lock was held, the disk was full.

    Nothing of the call was stored, or, where the connection broke while the server confirmed, all of it. Every method
    may be called again with the same arguments: `record` stores nothing twice, a lease is granted to its owner again.
    """


class MissingRowError(DatabaseError):
    """A row refers to one that is not there: a number of another database, or a row that was pruned meanwhile."""


class DatabaseUrlError(DatabaseError, UsageError):
    """A database URL that cannot be used: malformed, of another kind of database, or without its driver."""


_LOCKED = ("another process holds the database", "wait until it is done and try again")
_READ_ONLY = ("the database is read-only", "make it writable, or choose another one with --db or IOSFARM_DB")
_FULL = ("the disk is full", "free some space and try again: everything recorded before is kept")
_FULL_SERVER = ("the server has no room left", "free some: everything recorded before is kept")
_BUSY_SERVER = ("the server has too many connections", "wait until others are done, or raise its max_connections")
_SERVER_DOWN = ("the server is stopping or starting", "wait until it is up and try again")
_LOST = ("the connection was lost", "check that the server runs, and try again")
_CANNOT_OPEN = (
    "the file cannot be opened",
    "check that the directory exists and that you may read and write it",
)
_CORRUPT = ("the database file is damaged", "restore it from a copy, or move it away and start a new one")
_MISSING_ROW = ("a row refers to one that is not there", "use ids that this same database returned")

# Primary result codes, https://sqlite.org/rescode.html
_SQLITE = {
    sqlite3.SQLITE_PERM: _CANNOT_OPEN,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_IOERR: ("reading or writing the file failed", "look whether the disk is full, or gone"),
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_CONSTRAINT: _MISSING_ROW,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_NOTADB: ("the file is not a database", "choose another file with --db or IOSFARM_DB"),
}

# SQLSTATE codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES = {
    "23503": _MISSING_ROW,
    "25006": _READ_ONLY,
    "40001": _LOCKED,
    "40P01": _LOCKED,
    "42501": (
        "this user may not do that",
        "ask for the rights to create, read and write tables in this database",
    ),
    "53100": _FULL,
    "53200": _FULL_SERVER,
    "53300": _BUSY_SERVER,
    "55P03": _LOCKED,
    "57014": ("the question took too long", "ask for less, or give more time"),
    "57P01": _SERVER_DOWN,
    "57P02": _SERVER_DOWN,
    "57P03": _SERVER_DOWN,
    "57P05": _LOST,
}

_PASSING = (_LOCKED, _FULL, _FULL_SERVER, _BUSY_SERVER, _SERVER_DOWN, _LOST, _SQLITE[sqlite3.SQLITE_IOERR])


def translate(error: Exception, name: str) -> DatabaseError:
    """The one-line error for what a driver raised about the database called `name` (already without a password)."""
    original = error.orig if isinstance(error, DBAPIError) else error
    known = None
    if isinstance(original, sqlite3.Error):
        known = _SQLITE.get(getattr(original, "sqlite_errorcode", -1) & 0xFF)
    sqlstate = getattr(original, "sqlstate", None)
    if isinstance(sqlstate, str):
        known = _LOST if sqlstate.startswith("08") else _POSTGRES.get(sqlstate)
    if known is None and isinstance(error, TimeoutError):
        known = _LOCKED
    if known is not None:
        kind = MissingRowError if known is _MISSING_ROW else DatabaseError
        kind = TransientDatabaseError if known in _PASSING else kind
        return kind(known[0], where=name, hint=known[1])
    lines = str(original).strip().splitlines() or [type(original).__name__]
    if isinstance(error, DBAPIError) and not isinstance(original, sqlite3.Error) and sqlstate is None:
        # Refused, cut, unknown host, wrong password: the driver gives all of them without a code.
        what, hint = f"no connection: {lines[0]}", "check the server, the user and the URL"
        return TransientDatabaseError(what, where=name, hint=hint)
    return DatabaseError(f"{type(original).__name__}: {lines[0]}", where=name)


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turns the drivers' errors inside the block into a `DatabaseError` about the database called `name`."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise translate(error, name) from error
