"""The executor that needs no Ray: everything is done in the calling thread."""

from __future__ import annotations

import platform
from collections import deque
from dataclasses import replace

from iosfarm.farm.executor import Change, DeviceInfo, Outcome, Task, Turn, describe, perform
from iosfarm.farm.selector import Selector
from iosfarm.ir.errors import UsageError
from iosfarm.workers.failures import Failure
from iosfarm.workers.worker import Worker

NODE = "localhost"


class InlineExecutor:
    """Does tasks in the calling thread, when `wait` is called, in the order of submission. See `Executor`."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._infos: dict[str, DeviceInfo] = {}
        self._opened: dict[str, list[str]] = {}
        self._queue: deque[tuple[int, str, Task]] = deque()
        self._changes: list[Change] = []
        self._ended: list[Outcome] = []
        self._submitted = 0

    def open(self, selector: str) -> list[DeviceInfo]:
        """See `Executor`."""
        if selector not in self._opened:
            chosen = Selector.parse(selector)
            if not chosen.takes_node(NODE, platform.node()):
                raise UsageError("this machine is another node", where=selector, hint="leave node out, or use Ray")
            names = chosen.names if chosen.simulated else [chosen.worker]
            for name in names:
                if name not in self._workers:
                    worker = Worker(chosen.worker)
                    info = describe(worker, name, NODE)
                    if len(names) > 1:
                        info = replace(info, device=replace(info.device, instance={"device": name}))
                    if not chosen.takes_model(info.device.model):
                        worker.close()
                        hint = f"there is {info.device.model}"
                        raise UsageError("no device of that model here", where=selector, hint=hint)
                    self._workers[name], self._infos[name] = worker, info
            self._opened[selector] = names
        return [self._infos[name] for name in self._opened[selector] if name in self._infos]

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
            self._reopen(device, outcome.error)
        return [outcome]

    def changes(self) -> list[Change]:
        """See `Executor`."""
        changes, self._changes = self._changes, []
        return changes

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        """See `Executor`; what is queued stays queued: nothing is ever under way between two calls."""
        self._reopen(device, reason)

    def _reopen(self, device: str, reason: str) -> None:
        self._workers[device].close()
        self._workers[device] = Worker(self._infos[device].spec)
        self._changes += [Change(turn, self._infos[device], reason=reason) for turn in (Turn.LOST, Turn.RESTORED)]

    def drop(self, device: str) -> None:
        """See `Executor`."""
        if device not in self._workers:
            return
        self._workers.pop(device).close()
        del self._infos[device]
        reason = "the device was dropped"
        lost = [number for number, queued, _ in self._queue if queued == device]
        self._ended += [Outcome(number, device, error=reason, failure=Failure.LOST) for number in lost]
        self._queue = deque(item for item in self._queue if item[1] != device)

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        self._queue.clear()
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """See `Executor`."""
        self._queue.clear()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        self._infos.clear()
        self._opened.clear()
