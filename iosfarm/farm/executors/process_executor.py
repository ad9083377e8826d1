"""The executor without Ray whose workers are processes of their own: what ends one of them ends no search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO

from iosfarm.farm.executors.executor import DeviceInfo, Outcome, Task, describe, perform
from iosfarm.farm.executors.last_words import ended
from iosfarm.farm.executors.local_executor import NODE, LocalExecutor
from iosfarm.farm.executors.visible_gpus import VISIBLE, visible_gpus
from iosfarm.ir.errors import IosfarmError
from iosfarm.workers.failures import Failure
from iosfarm.workers.worker import Worker
from iosfarm.zoo.device_selector import Selector

START = 120.0
"""Seconds for a worker to open its device."""

_END = 5.0
"""Seconds for a worker that has nothing to do any more to close its device."""

_LONGEST = 400
"""Characters of how a worker has ended, with its last words, that are told."""

_FAILED = "the worker died"


@dataclass
class _Process:
    """A worker's process. number: of the task under way. queue: what comes after it."""

    popen: subprocess.Popen[bytes]
    connection: Connection
    said: IO[bytes]
    number: int | None = None
    queue: deque[tuple[int, Task]] = field(default_factory=deque)

    def end(self) -> str:
        """How it has ended, and the last that it said."""
        try:
            code = self.popen.wait(_END)
        except subprocess.TimeoutExpired:
            return "it no longer answers"
        self.said.seek(0)
        return ended(code, self.said.read())[:_LONGEST]


class ProcessExecutor(LocalExecutor):
    """A process for each device of this machine, which takes one task after the other. See `Executor`.

    Of `cuda` there is one for each GPU, and each sees its own alone: no context, and no mistake, on the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._processes: dict[str, _Process] = {}
        self._ended: list[Outcome] = []
        self._submitted = 0
        self._shown: dict[str, str] = {}  # by device: its GPU, as CUDA_VISIBLE_DEVICES writes it

    def submit(self, device: str, task: Task) -> int:
        """See `Executor`."""
        if device not in self._processes:
            self._start(device, self._infos[device].spec)  # its worker was stopped in the middle of a task
        self._submitted += 1
        self._processes[device].queue.append((self._submitted, task))
        self._feed(device)
        return self._submitted

    def pending(self, device: str) -> int:
        """See `Executor`."""
        ended = sum(1 for outcome in self._ended if outcome.device == device)
        process = self._processes.get(device)
        return ended if process is None else ended + len(process.queue) + (process.number is not None)

    def wait(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        if not self._ended:
            self._hear(timeout)
        ended, self._ended = self._ended, []
        return ended

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        """See `Executor`."""
        self._fail(device, failure, reason)

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        for process in self._processes.values():
            process.queue.clear()
        deadline = time.monotonic() + timeout
        while self._busy() and (left := deadline - time.monotonic()) > 0:
            self._hear(left)
        for device in self._busy().values():
            self._stop(device)
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """See `Executor`."""
        for name in list(self._processes):
            self._stop(name)
        self._ended.clear()
        self._infos.clear()
        self._opened.clear()

    # -- processes -----------------------------------------------------------------------------------------------

    def _names(self, chosen: Selector) -> list[str]:
        gpus = visible_gpus() if chosen.kind == "cuda" else []
        if len(gpus) < 2:
            return super()._names(chosen)
        names = [f"{chosen.worker}#{number}" for number in range(len(gpus))]
        self._shown.update(zip(names, gpus, strict=True))
        return names

    def _open(self, selector: str, chosen: Selector) -> list[str]:
        """They start side by side: a GPU takes seconds to open."""
        new = [name for name in self._names(chosen)[: chosen.count] if name not in self._infos]
        try:
            for name in new:
                self._launch(name, chosen.worker)
            return super()._open(selector, chosen)
        finally:
            for name in new:
                if name in self._processes and name not in self._infos:  # the search ends before it is asked
                    self._stop(name)

    def _launch(self, name: str, spec: str) -> None:
        ours, theirs = Pipe()
        said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        shown = {VISIBLE: self._shown[name]} if name in self._shown else {}
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve()", str(theirs.fileno()), name, spec],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "IOSFARM_WORKER_PROCESS": "1", **shown},
                start_new_session=True,  # Ctrl-C is the driver's
            )
        self._processes[name] = _Process(popen, ours, said)

    def _start(self, name: str, spec: str) -> DeviceInfo:
        if name not in self._processes:
            self._launch(name, spec)
        process = self._processes[name]
        try:
            if not process.connection.poll(START):
                raise IosfarmError(f"no answer for {START:.0f} s: is it free?", where=spec)
            answer = process.connection.recv()
        except (EOFError, OSError):
            answer = IosfarmError(f"no worker started: {process.end()}", where=spec)
        except IosfarmError as error:
            answer = error
        if isinstance(answer, IosfarmError):
            self._stop(name)
            raise answer
        assert isinstance(answer, DeviceInfo)
        return answer

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.connection.close()
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(_END if process.number is None else 0)
        if process.popen.poll() is None:
            os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.wait()
        process.said.close()

    def _lose(self, name: str, reason: str) -> None:
        if (process := self._processes.get(name)) is not None:
            numbers = [number for number, _ in process.queue]
            if process.number is not None and process.number not in numbers:
                numbers.insert(0, process.number)
            self._ended += [Outcome(number, name, error=reason, failure=Failure.LOST) for number in numbers]

    def _feed(self, device: str) -> None:
        """The next task, to a worker that has none. One that has died meanwhile is found out by `_hear`."""
        process = self._processes[device]
        if process.number is None and process.queue:
            process.number = process.queue[0][0]
            with suppress(OSError):
                process.connection.send(process.queue[0])
                process.queue.popleft()

    def _busy(self) -> dict[Connection, str]:
        return {p.connection: name for name, p in self._processes.items() if p.number is not None}

    def _hear(self, timeout: float) -> None:
        busy = self._busy()
        for connection in wait(list(busy), timeout) if busy else []:
            assert isinstance(connection, Connection)
            device = busy[connection]
            try:
                outcome: Outcome = connection.recv()
            except (EOFError, OSError):
                self._fail(device, Failure.KILLED, f"{_FAILED}: {self._processes[device].end()}")
                continue
            self._ended.append(outcome)
            self._processes[device].number = None
            if outcome.failure is Failure.KILLED:
                self._fail(device, Failure.KILLED, outcome.error)  # it has lost its device
            else:
                self._feed(device)

    def _fail(self, device: str, failure: Failure, reason: str) -> None:
        """What is under way fails, what is queued is done by the worker's successor."""
        process = self._processes[device]
        queue = process.queue
        if process.number is not None:
            begun = not queue or queue[0][0] != process.number
            kind = failure if begun else Failure.LOST
            queue = queue if begun else deque(list(queue)[1:])
            self._ended.append(Outcome(process.number, device, error=reason, failure=kind))
        self._replace(device, reason)
        if device in self._processes:
            self._processes[device].queue = queue
            self._feed(device)
        else:
            self._ended += [Outcome(number, device, error=reason, failure=Failure.LOST) for number, _ in queue]


def serve() -> None:
    """What the process does: describe the device, then task after task until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, name, spec = Connection(int(sys.argv[1])), sys.argv[2], sys.argv[3]
    with suppress(EOFError, BrokenPipeError):
        try:
            worker = Worker(spec)
            answer: object = describe(worker, name, NODE)
        except IosfarmError as error:
            connection.send(error)
            return
        connection.send(answer)
        while True:
            number, task = connection.recv()
            connection.send(perform(worker, task, number, name))
