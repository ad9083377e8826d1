"""A handle on a latency database: opening and closing it, its schema, its transactions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine

from iosfarm.db.connection import dialect, schema, silence
from iosfarm.db.connection.location import Location, check_file, locate, overlay_location
from iosfarm.db.errors import DatabaseError, translated


class Handle:
    """What all methods of `LatencyDatabase` share; its contract is written there."""

    silence: float | None = None
    """Seconds that a PostgreSQL server may take to answer a statement before its connection is given up with a
    `TransientDatabaseError`: for whom all statements are short, and who tries again. None: for ever.
    """

    overlay: Handle | None = None
    """The database beneath this one: what is not found here is looked for there, and nothing is ever written there."""

    def __init__(
        self, url: str | None = None, *, readonly: bool = False, timeout: float = 10.0, overlay: str | None = None
    ) -> None:
        self._location = locate(url)
        self.readonly = readonly
        self.timeout = timeout
        self._open()
        try:
            self._lay(overlay_location(overlay))
        except BaseException:
            self.close()
            raise

    def _lay(self, beneath: Location | None) -> None:
        if beneath is not None and beneath != self._location:
            lower = Handle.__new__(Handle)
            lower.__setstate__({"location": beneath, "readonly": True, "timeout": self.timeout, "overlay": None})
            self.overlay = lower

    def _open(self) -> None:
        self._engine: Engine | None = None
        self._outdated: DatabaseError | None = None
        check_file(self._location, readonly=self.readonly)
        engine = dialect.make_engine(self._location, readonly=self.readonly, timeout=self.timeout)
        silence.watch(engine, lambda: self.silence)
        try:
            with translated(self.name):
                with dialect.transaction(engine, write=False) as connection:
                    found = schema.revision(connection, self.name)
                self._found = found or ""
                if found is None and not self.readonly:
                    schema.migrate(engine, self.name, self.timeout)
                    found = schema.HEAD
            self._schema_version = found or ""
            schema.check(found, self.name)
        except schema.OutdatedDatabaseError as error:
            self._outdated = error
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine
        self._file = _identity(self._location.path)

    @property
    def name(self) -> str:
        """What messages call the database: the file's path, or the URL without password and parameters."""
        return self._location.name

    @property
    def schema_version(self) -> str:
        """The schema's revision as it was when the database was opened or migrated by this handle."""
        return self._schema_version

    def migrate(self) -> tuple[str, str]:
        """Brings the database to this program's schema.

        Returns the revision that this handle found (empty for a database that it created) and the one there is now.
        """
        if self.readonly:
            raise DatabaseError("opened read-only: cannot migrate", where=self.name)
        with translated(self.name):
            schema.migrate(self._connected(), self.name, self.timeout)
        before, self._found = self._found, schema.HEAD
        self._schema_version, self._outdated = schema.HEAD, None
        return before, schema.HEAD

    def close(self) -> None:
        """Gives the connections back. The handle cannot be used afterwards; closing twice is allowed."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()
        if self.overlay is not None:
            self.overlay.close()

    def _layers(self) -> Iterator[tuple[Handle, bool]]:
        """This database and the one beneath it, with whether it is this one."""
        yield self, True
        if self.overlay is not None:
            yield self.overlay, False

    def _connected(self) -> Engine:
        if self._engine is None:
            raise DatabaseError("this handle is closed", where=self.name)
        return self._engine

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        engine = self._connected()
        if self._outdated is not None:
            raise self._outdated
        if write and self.readonly:
            raise DatabaseError("opened read-only: nothing can be recorded", where=self.name)
        if write:
            self._check_identity()
        with translated(self.name), dialect.transaction(engine, write=write) as connection:
            yield connection

    def _check_identity(self) -> None:
        """A file that was deleted or replaced takes what is written, and nobody will ever find it."""
        if self._location.path is None:
            return
        if _identity(self._location.path) != self._file:
            raise DatabaseError(
                "the file was deleted or replaced while it was in use: what was recorded in it is gone with it",
                where=self.name,
                hint="start again",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __getstate__(self) -> dict[str, Any]:
        if self._location.path is None and self._location.url.get_backend_name() == "sqlite":
            raise DatabaseError("a database in memory cannot be sent to another process", hint="use a file")
        beneath = self.overlay._location if self.overlay is not None else None
        return {"location": self._location, "readonly": self.readonly, "timeout": self.timeout, "overlay": beneath}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._location = state["location"]
        self.readonly = state["readonly"]
        self.timeout = state["timeout"]
        self._open()
        self._lay(state["overlay"])


def _identity(path: Path | None) -> tuple[int, int] | None:
    """What tells a file from another one of its name; None: there is none."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None
