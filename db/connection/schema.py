"""The schema's version: what a database has, what this program needs, and how one becomes the other."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, column, inspect, select, table

from iosfarm.db.connection.dialect import lock_schema, transaction, use_write_ahead_log
from iosfarm.db.errors import DatabaseError

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS = ("0001", "0002", "0003", "0004")
"""Every revision there has been, oldest first; the last is what this program needs."""

HEAD = REVISIONS[-1]

VERSION_TABLE = "iosfarm_version"
"""Not alembic's default name: another program's migrations would be taken for ours."""


class OutdatedDatabaseError(DatabaseError):
    """The database was made by an older iosfarm: `LatencyDatabase.migrate` mends it."""


def alembic_config() -> Config:
    """For alembic's commands. They find the database through `attributes["connection"]`."""
    from alembic.config import Config  # slow to import, and rarely needed

    config = Config()
    config.set_main_option("script_location", "iosfarm.db:migrations")
    return config


def revision(connection: Connection, name: str) -> str | None:
    """The database's revision; None where there is no table at all.

    Raises:
        DatabaseError: the tables are another program's.
    """
    tables = set(inspect(connection).get_table_names())
    found = None
    if VERSION_TABLE in tables:
        found = connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
    if found is None and tables - {VERSION_TABLE}:
        hint = "choose another one with --db or IOSFARM_DB"
        raise DatabaseError("this database belongs to another program", where=name, hint=hint)
    return found


def check(found: str | None, name: str) -> None:
    """Raises an error unless `found` is the revision that this program needs.

    Raises:
        OutdatedDatabaseError: an older revision.
        DatabaseError: a newer one, or none.
    """
    if found == HEAD:
        return
    # A server's URL is not repeated: its password would be missing.
    command = "`iosfarm db migrate`" if "://" in name else f"`iosfarm db migrate --db {shlex.quote(name)}`"
    if found is None:
        raise DatabaseError("the database is empty", where=name, hint=f"{command} prepares it")
    if found in REVISIONS:
        raise OutdatedDatabaseError(f"made by an older iosfarm (schema {found})", where=name, hint=f"run {command}")
    what = f"made by a newer iosfarm (schema {found}; this one knows {HEAD})"
    raise DatabaseError(what, where=name, hint="upgrade iosfarm")


def migrate(engine: Engine, name: str, timeout: float) -> None:
    """Brings an empty or older database to `HEAD` in one transaction.

    Raises:
        DatabaseError: another program's database, or a newer one.
    """
    from alembic import command  # slow to import, and rarely needed

    with transaction(engine, write=False) as connection:
        empty = revision(connection, name) is None
    if empty:
        use_write_ahead_log(engine, timeout)
    with transaction(engine, write=True) as connection:
        lock_schema(connection)
        before = revision(connection, name)  # again: another process may have come first
        if before is not None and before not in REVISIONS:
            check(before, name)
        if before != HEAD:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
