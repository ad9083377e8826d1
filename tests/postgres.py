"""A PostgreSQL server of the tests' own, from the binaries of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import psycopg

DEBIAN = "/usr/lib/postgresql"
USER = "farm"
START = 60.0  # seconds: a loaded machine takes its time
_FAST = ("fsync=off", "full_page_writes=off", "max_connections=200", "timezone=UTC")


def binaries() -> Path | None:
    """The folder of `postgres` and `initdb`, None where they are not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path(DEBIAN).glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


class PostgresServer:
    """Listens on a Unix socket in a temporary folder; nothing of it outlives `close`."""

    def __init__(self, folder: Path, parent: Path | None = None, settings: Sequence[str] = _FAST) -> None:
        """folder: of the binaries. parent: of the temporary folder. settings: `name=value` each."""
        self._binaries = folder
        self._folder = Path(tempfile.mkdtemp(prefix="iosfarm-postgres-", dir=parent))
        self._settings = ["-c", "listen_addresses=", *(text for setting in settings for text in ("-c", setting))]
        self._data = self._folder / "data"
        self._user: str | None = None
        if os.geteuid() == 0:  # the server refuses to run as root
            self._user = next(u.pw_name for u in pwd.getpwall() if u.pw_name in ("postgres", "nobody"))
            shutil.chown(self._folder, self._user)
        self._server: subprocess.Popen[bytes] | None = None
        arguments = ["--pgdata", self._data, "--username", USER, "--auth", "trust", "--encoding", "UTF8"]
        self._run("initdb", *arguments, "--locale", "C", "--no-sync", "--no-instructions")
        self.start()

    def url(self, database: str) -> str:
        """The URL of a database on this server."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self._folder), safe='')}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the owner of all databases."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def empty(self, database: str) -> None:
        """Delete all rows of a latency database, and begin anew with their numbers."""
        tables = (
            "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public' AND tablename !~ 'version'"
        )
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            (names,) = connection.execute(tables.encode()).fetchone() or ("",)
            connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE".encode())

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        arguments = [self._binaries / "postgres", "-D", self._data, "-k", self._folder]
        log = (self._folder / "log").open("ab")
        with log:
            self._server = subprocess.Popen(
                [*arguments, *self._settings], stdout=log, stderr=log, user=self._user, cwd=self._folder
            )
        deadline = time.monotonic() + START
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server as its administrator would ("fast"), running transactions and all."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(START)
            self._server = None

    def close(self) -> None:
        """Stop the server and remove its files."""
        self.stop(signal.SIGQUIT)  # nothing is written any more
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments], capture_output=True, text=True, user=self._user, cwd=self._folder
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
