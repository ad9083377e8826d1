"""The real command line, each run in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT = 120.0

SEARCH = ("search", "--models", "zoo.yaml", "--executor", "inline")
SIM = (*SEARCH, "--device", "sim:v100")


@dataclass(frozen=True)
class Done:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def error(self) -> str:
        """The one line that says what is wrong; before it there may be progress, and nothing after it."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert errors == lines[-1:], self.err
        assert "Traceback" not in self.err
        assert "internal error" not in self.err
        return errors[0].removeprefix("error: ")


class Iosfarm:
    """`iosfarm` in a folder with a database of its own, `latency.db`. Calling it runs it to its end."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.database = folder / "latency.db"
        self.environment = {**os.environ, "IOSFARM_DB": str(self.database), **(environment or {})}
        self.environment.pop("IOSFARM_DEBUG", None)

    def zoo(self, text: str = "models:\n  - name: sample\n") -> str:
        """Writes `zoo.yaml`; returns its name."""
        (self.folder / "zoo.yaml").write_text(text)
        return "zoo.yaml"

    def start(self, *arguments: str, preexec: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "iosfarm", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=preexec,
        )

    def __call__(self, *arguments: str, preexec: Callable[[], None] | None = None) -> Done:
        return finish(self.start(*arguments, preexec=preexec))

    def recorded(self) -> int:
        """Measurements in the database, 0 where there is none yet."""
        if not self.database.exists():
            return 0
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            try:
                (count,) = connection.execute("SELECT count(*) FROM measurement").fetchone()
            except sqlite3.OperationalError:  # not made yet
                return 0
        return int(count)

    def distinct(self) -> int:
        """Stages with a measurement."""
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            (count,) = connection.execute("SELECT count(DISTINCT stage_id) FROM measurement").fetchone()
        return int(count)

    def until_recorded(self, least: int, process: subprocess.Popen[str]) -> None:
        """Waits until the running search has recorded that much."""
        deadline = time.monotonic() + TIMEOUT
        while self.recorded() < least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)


def until_said(text: str, process: subprocess.Popen[str]) -> None:
    """Waits until the running command says something on stderr; what came before is read with it."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return
    raise AssertionError("".join(said))


def finish(process: subprocess.Popen[str]) -> Done:
    """Waits for a process to end."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise
    return Done(process.returncode, out, err)
