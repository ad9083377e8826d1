"""Where measurements are kept: the SQLite library, the directory, the database. To look leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

from iosfarm.cli.checks import Check
from iosfarm.ir.errors import IosfarmError

MIN_SQLITE = (3, 35, 0)  # RETURNING
MIN_DISK = 2**28  # bytes: a hundred thousand measurements with all their samples


def sqlite() -> Check:
    """The SQLite library that Python was built with."""
    import sqlite3

    if sqlite3.sqlite_version_info < MIN_SQLITE:
        wanted = ".".join(map(str, MIN_SQLITE))
        todo = f"use a Python built with SQLite {wanted} or newer, or PostgreSQL: --db postgresql://…"
        return Check("sqlite", "problem", sqlite3.sqlite_version, todo)
    return Check("sqlite", "ok", sqlite3.sqlite_version)


def data_directory(url: str | None) -> Check:
    """The directory of the SQLite file of `url` (None: the default): there or to be made, writable, with room.

    Raises DatabaseUrlError for a URL that iosfarm cannot use.
    """
    from iosfarm.db import default_path
    from iosfarm.db.connection.location import locate

    path = locate(url).path
    if path is None:
        return Check("data directory", "ok", "none needed")
    folder = path.parent
    if path == default_path().absolute():  # the first search makes this one, so its parents count
        while not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
    if not os.path.lexists(folder):
        return Check("data directory", "missing", f"no {folder}", f"mkdir -p {shlex.quote(str(folder))}")
    if refusal := _refusal(folder):
        todo = "make it writable, or choose another place with --db or IOSFARM_DB"
        return Check("data directory", "problem", f"{folder}: {refusal}", todo)
    free = shutil.disk_usage(folder).free
    detail = f"{path.parent}, {free / 2**30:.1f} GiB free"
    if free < MIN_DISK:
        todo = f"free {MIN_DISK / 2**20:.0f} MiB, or choose another place with --db or IOSFARM_DB"
        return Check("data directory", "problem", detail, todo)
    return Check("data directory", "ok", detail)


def database(url: str | None) -> Check:
    """The latency database of `url` (None: the default), read without migrating it.

    Raises DatabaseUrlError for a URL that iosfarm cannot use.
    """
    from iosfarm.db import LatencyDatabase
    from iosfarm.db.connection.location import locate

    location = locate(url)
    if location.in_memory:
        return Check("database", "ok", f"{location.name}: empty at first, gone at the end")
    if location.path is not None and not os.path.exists(location.path):
        directory = data_directory(url)
        if directory.status != "ok":
            return Check("database", "problem", f"{location.name}: cannot be made there", directory.todo)
        return Check("database", "ok", f"{location.name}: none yet, the first search makes it")
    try:
        with LatencyDatabase(url, readonly=True) as latencies:
            stats = latencies.stats()
    except IosfarmError as error:
        detail = f"{error.where}: {error.what}" if error.where else error.what
        return Check("database", "problem", detail, error.hint or "choose another one with --db or IOSFARM_DB")
    return Check("database", "ok", f"{stats.database}: {stats.measurements} measurements of {stats.stages} stages")


def _refusal(folder: Path) -> str:
    """Why nothing can be made in a folder, empty where it can. Permissions alone do not tell: think of /proc."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".iosfarm-doctor-"):
            return ""
    except OSError as error:
        return f"nothing can be made in it: {error.strerror}"
