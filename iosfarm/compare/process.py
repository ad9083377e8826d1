"""The parent's side of a framework's process: requests, time limits, and only one that runs at a time."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import iosfarm
from iosfarm.compare.registry import Framework
from iosfarm.compare.rows import Status
from iosfarm.farm.executors.last_words import ended

_LONGEST = 300  # characters of an error in a row
_TICK = 0.1  # seconds between two looks at whether the user wants to stop


class Failed(Exception):  # noqa: N818 - an outcome, with its status
    """A framework that gave no answer, or an error for one."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason if len(reason) <= _LONGEST else reason[: _LONGEST - 1] + "…"


class Interrupted(Exception):  # noqa: N818 - the user asked for it
    """The user wants to stop."""


class FrameworkProcess:
    """A framework in a process of its own, in a session of its own: Ctrl-C does not reach it.

    Between two requests it is stopped (SIGSTOP), so that threads of it that wait busily take no time from others.
    """

    def __init__(self, framework: Framework, folder: Path, threads: int, python: str | None = None) -> None:
        self.framework = framework
        self._log = folder / f"{framework.name}.log"
        environment = {**os.environ, **_environment(threads), "PYTHONPATH": _python_path(folder, python)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python or sys.executable, "-m", "iosfarm.compare.child", str(folder), framework.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self._buffer = b""

    def request(
        self, command: Mapping[str, object], timeout: float, stop: Callable[[], bool] = lambda: False
    ) -> dict[str, object]:
        """Send a command and wait for its answer, `timeout` seconds at most.

        Raises:
            Failed: an error, the end of the process, or no answer in time; then the process is gone. Interrupted.
        """
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            try:
                self._process.stdin.write(json.dumps(command).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                raise self._death() from None
            answer = self._answer(time.monotonic() + timeout, timeout, stop)
        except (Failed, Interrupted):
            self.close()
            raise
        self._signal(signal.SIGSTOP)
        if "status" in answer:
            self.close()
            raise Failed(Status(str(answer["status"])), str(answer["error"]))
        return answer

    def close(self) -> None:
        """End the process and all that it has started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _answer(self, deadline: float, timeout: float, stop: Callable[[], bool]) -> dict[str, object]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if stop():
                    raise Interrupted
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Failed(Status.HUNG, f"no answer within {timeout:g} s; give it more with --timeout")
                if selector.select(min(left, _TICK)):
                    piece = os.read(descriptor, 65536)
                    if not piece:
                        raise self._death()
                    self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        found: dict[str, object] = json.loads(line)
        return found

    def _death(self) -> Failed:
        code = self._process.wait()
        how = ended(code, self._log.read_bytes())
        if "No module named 'numpy'" in how:
            return Failed(Status.NOT_INSTALLED, f"{how}; pip install numpy there")
        return Failed(Status.CRASHED, how)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _python_path(folder: Path, python: str | None) -> str:
    """Where the process finds iosfarm. Another interpreter gets iosfarm alone: its other packages are its own."""
    home = Path(iosfarm.__file__).parent
    if python is None:
        return os.pathsep.join(filter(None, [str(home.parent), os.environ.get("PYTHONPATH")]))
    lent = folder / "lent"
    lent.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        (lent / "iosfarm").symlink_to(home)
    return str(lent)


def _environment(threads: int) -> dict[str, str]:
    """As many threads for all; no chatter."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "GLOG_minloglevel": "2", "PYTHONWARNINGS": "ignore"}
    return {**dict.fromkeys(counts, str(threads)), **quiet}
