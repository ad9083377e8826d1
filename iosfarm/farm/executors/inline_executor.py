"""The executor that needs neither Ray nor other processes: everything is done in the calling thread."""

from __future__ import annotations

from collections import deque

from iosfarm.farm.executors.executor import DeviceInfo, Outcome, Task, describe, perform
from iosfarm.farm.executors.local_executor import NODE, LocalExecutor
from iosfarm.workers.failures import Failure
from iosfarm.workers.worker import Worker


class InlineExecutor(LocalExecutor):
    """Does tasks in the calling thread, when `wait` is called, in the order of submission. See `Executor`."""

    def __init__(self) -> None:
        super().__init__()
        self._workers: dict[str, Worker] = {}
        self._queue: deque[tuple[int, str, Task]] = deque()
        self._ended: list[Outcome] = []
        self._submitted = 0

    def _start(self, name: str, spec: str) -> DeviceInfo:
        self._workers[name] = Worker(spec)
        return describe(self._workers[name], name, NODE)

    def _stop(self, name: str) -> None:
        self._workers.pop(name).close()

    def _lose(self, name: str, reason: str) -> None:
        lost = [number for number, queued, _ in self._queue if queued == name]
        self._ended += [Outcome(number, name, error=reason, failure=Failure.LOST) for number in lost]
        self._queue = deque(item for item in self._queue if item[1] != name)

    def submit(self, device: str, task: Task) -> int:
        """See `Executor`."""
        self._submitted += 1
        self._queue.append((self._submitted, device, task))
        return self._submitted

    def pending(self, device: str) -> int:
        """See `Executor`."""
        waiting = sum(1 for _, queued, _ in self._queue if queued == device)
        return waiting + sum(1 for outcome in self._ended if outcome.device == device)

    def wait(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        if self._ended or not self._queue:
            ended, self._ended = self._ended, []
            return ended
        number, device, task = self._queue.popleft()
        outcome = perform(self._workers[device], task, number, device)
        if outcome.failure is Failure.KILLED:
            self._replace(device, outcome.error)
        return [outcome]

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        """See `Executor`; what is queued stays queued: nothing is ever under way between two calls."""
        self._replace(device, reason)

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        self._queue.clear()
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """See `Executor`."""
        self._queue.clear()
        for name in list(self._workers):
            self._stop(name)
        self._infos.clear()
        self._opened.clear()
