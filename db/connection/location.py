"""Where a latency database is: the URL or path a user gives, or the default, and how it is called in messages."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from iosfarm.db.errors import DatabaseError, DatabaseUrlError

MEMORY = ":memory:"
_SCHEME = re.compile(r"(sqlite|postgres(ql)?)(\+\w+)?:", re.IGNORECASE)
_SQLITE = {"sqlite", "sqlite+pysqlite"}
_POSTGRES = {"postgres", "postgresql", "postgresql+psycopg"}
_NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "fhgfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gpfs"),
    *("lustre", "ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs"),
}
_FORMS = "write a file's path, sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"


@dataclass(frozen=True)
class Location:
    """A database that can be connected to. `path` is the SQLite file, None in memory and on a server."""

    url: URL
    path: Path | None

    @property
    def in_memory(self) -> bool:
        """Whether it is SQLite's and ends with its handle."""
        return self.path is None and self.url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """For messages: the file's path, or the URL without password and parameters (which may hold one)."""
        if self.url.get_backend_name() == "sqlite":
            return str(self.path) if self.path else "the database in memory"
        return self.url.set(query={}).render_as_string(hide_password=True)


def default_path() -> Path:
    """$XDG_DATA_HOME/iosfarm/latency.db, by default ~/.local/share/iosfarm/latency.db."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "iosfarm" / "latency.db"


def locate(url: str | None) -> Location:
    """The database of `url`, else of $IOSFARM_DB, else the user's own.

    An empty $IOSFARM_DB counts as none. A path is made absolute, so that a handle means the same file in a process
    with another working directory.

    Raises:
        DatabaseUrlError: the text is no URL that iosfarm can use. The message never holds a password.
    """
    if url == "":
        raise DatabaseUrlError("an empty --db", hint=_FORMS)
    text = url or os.environ.get("IOSFARM_DB")
    if not text:
        return _file(str(default_path()))
    if "://" not in text:
        if _SCHEME.match(text) or not text.strip():
            raise DatabaseUrlError(f"malformed database URL {_shown(text)}", hint=_FORMS)
        return _file(text)
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        # Not chained: the parser's own message may quote a piece of the password.
        raise DatabaseUrlError(f"malformed database URL {_shown(text)}", hint=_FORMS) from None
    driver = parsed.drivername.lower()
    if driver in _SQLITE:
        if parsed.host or parsed.port or parsed.username or parsed.password is not None or parsed.query:
            what = f"malformed database URL {_shown(text)}: an SQLite URL takes a path and nothing else"
            raise DatabaseUrlError(what, hint=_FORMS)
        return _file(parsed.database or MEMORY)
    if driver in _POSTGRES:
        if not parsed.database:
            raise DatabaseUrlError("the URL names no database", where=_shown(text), hint=_FORMS)
        return Location(parsed.set(drivername="postgresql+psycopg"), None)
    raise DatabaseUrlError(f"iosfarm does not run on {driver}", hint=_FORMS)


def overlay_location(url: str | None) -> Location | None:
    """The database beneath the user's own: `url`, else $IOSFARM_DB_OVERLAY, else none.

    Raises:
        DatabaseUrlError: see `locate`.
    """
    if url == "":
        raise DatabaseUrlError("an empty --db-overlay", hint=_FORMS)
    text = url or os.environ.get("IOSFARM_DB_OVERLAY")
    return locate(text) if text else None


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system that a path is on, None where it is on none or that cannot be told.

    mounts: what /proc/self/mounts says, by default.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(errors="replace")
        except OSError:
            return None  # not Linux
    real = os.path.realpath(path)
    longest, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):  # of equal ones the last was mounted over the others
            longest, kind = point, fields[2]
    return kind if kind in _NETWORK else None


def check_file(location: Location, *, readonly: bool) -> None:
    """Tells early, and precisely, why a SQLite file cannot be used. Makes the default file's directory.

    Raises:
        DatabaseError: nothing to read (readonly: no such file, or in memory), no such directory, a directory, not
            writable, or not to be seen.
    """
    try:
        _check_file(location, readonly=readonly)
    except OSError as error:  # a folder above it that may not be entered, a loop of links, a name that is too long
        what = f"cannot look there: {error.strerror or error}"
        hint = "choose another place with --db or IOSFARM_DB"
        raise DatabaseError(what, where=location.name, hint=hint) from error


def _check_file(location: Location, *, readonly: bool) -> None:
    path = location.path
    if location.in_memory and readonly:
        hint = "name the file or the server that holds the measurements"
        raise DatabaseError("a database in memory starts empty: there is nothing to read", hint=hint)
    if path is None:
        return
    name = str(path)
    if path.is_dir():
        raise DatabaseError("this is a directory", where=name, hint="name a file in it")
    if not path.exists() and readonly:
        hint = f"`iosfarm search` makes one, and so does `iosfarm db migrate --db {name}`"
        raise DatabaseError("there is no latency database here", where=name, hint=hint)
    if path == default_path().absolute() and not readonly:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "choose another place with --db or IOSFARM_DB"
            raise DatabaseError(f"cannot make the directory: {error.strerror}", where=name, hint=hint) from error
    if not path.parent.is_dir():
        raise DatabaseError(f"there is no directory {path.parent}", where=name, hint="make it first")
    if readonly:
        return
    if kind := network_file_system(path.parent):
        # https://sqlite.org/wal.html: processes share the log's index in memory, which two hosts do not have.
        what = f"SQLite cannot be shared on a network file system ({kind}): its locks fail there, and data is lost"
        hint = "name a file on a local disk with --db or IOSFARM_DB, or a PostgreSQL server"
        raise DatabaseError(what, where=name, hint=hint)
    if path.exists() and not os.access(path, os.W_OK):
        hint = "make it writable, or choose another one with --db or IOSFARM_DB"
        raise DatabaseError("the file is read-only", where=name, hint=hint)
    if not os.access(path.parent, os.W_OK):
        # Even for an existing file: SQLite keeps its write-ahead log beside it.
        hint = "make it writable, or choose another place with --db or IOSFARM_DB"
        raise DatabaseError(f"the directory {path.parent} is not writable", where=name, hint=hint)


def _file(path: str) -> Location:
    if path == MEMORY:
        return Location(URL.create("sqlite"), None)
    absolute = Path(path).expanduser().absolute()
    return Location(URL.create("sqlite", database=str(absolute)), absolute)


def _shown(text: str) -> str:
    """As much of a URL as surely holds no password: the scheme."""
    scheme, colon, _ = text.partition(":")
    return f"{scheme}:…" if colon else repr(text)
