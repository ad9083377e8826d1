"""The contract of what carries tasks to devices, and the executor that needs no Ray.

An executor owns one worker for each device spec. A worker does one task at a time, in the order of submission.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from iosfarm.ir.device import Device, Environment
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Measurement
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels.runtime import Weights
from iosfarm.workers.evaluating import Evaluation, EvaluationSettings
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.workers.worker import Worker

MEASURES_AHEAD = 2
"""Tasks that wait on a device at most: enough to keep it busy, few enough to lose little."""


@dataclass(frozen=True)
class DeviceInfo:
    """A device as its worker describes it."""

    spec: str
    device: Device
    environment: Environment
    layout: str


@dataclass(frozen=True)
class MeasureTask:
    """Stages to measure, as canonical JSON."""

    stages: tuple[str, ...]
    effort: Effort = Effort.NORMAL


@dataclass(frozen=True)
class EvaluateTask:
    """Schedules of one graph to check and time end to end. weights None: random ones from `seed`."""

    graph: Graph
    schedules: Mapping[str, Schedule]
    weights: Weights | None
    seed: int
    settings: EvaluationSettings


Task = MeasureTask | EvaluateTask


@dataclass(frozen=True)
class Outcome:
    """What became of task number `task`. error: why the worker could not do it (the infrastructure's fault)."""

    task: int
    spec: str
    measurements: Sequence[Measurement] = ()
    evaluation: Evaluation | None = None
    error: str = ""


class Executor(Protocol):
    """Carries tasks to devices. Used by one thread; closing it leaves nothing running."""

    def open(self, spec: str) -> DeviceInfo:
        """Start the worker of a device, if it is not running, and ask what it is.

        Raises:
            UsageError: no such device here. IosfarmError: the worker did not start.
        """
        ...

    def submit(self, spec: str, task: Task) -> int:
        """Queue a task on an open device; returns its number."""
        ...

    def pending(self, spec: str) -> int:
        """Tasks of a device that are queued or under way."""
        ...

    def wait(self, timeout: float) -> list[Outcome]:
        """What has ended, waiting up to `timeout` seconds for something to end. An executor without threads of its
        own does a task in this call, and returns when it is done.
        """
        ...

    def drain(self, timeout: float) -> list[Outcome]:
        """Before stopping: forget what is queued, and wait up to `timeout` seconds for what is under way."""
        ...

    def close(self) -> None:
        """Stop the workers; what is under way is given up. Closing twice is allowed."""
        ...


def perform(worker: Worker, task: Task, number: int, spec: str) -> Outcome:
    """Do a task with a worker; an exception becomes an outcome with an error."""
    try:
        if isinstance(task, MeasureTask):
            return Outcome(number, spec, measurements=worker.measure(list(task.stages), EFFORTS[task.effort]))
        evaluation = worker.evaluate(task.graph, task.schedules, task.weights, task.seed, task.settings)
        return Outcome(number, spec, evaluation=evaluation)
    except Exception as error:
        return Outcome(number, spec, error=f"{type(error).__name__}: {error}")


class InlineExecutor:
    """Does tasks in the calling thread, when `wait` is called."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._queue: deque[tuple[int, str, Task]] = deque()
        self._submitted = 0

    def open(self, spec: str) -> DeviceInfo:
        """See `Executor`."""
        if spec not in self._workers:
            self._workers[spec] = Worker(spec)
        return describe(self._workers[spec])

    def submit(self, spec: str, task: Task) -> int:
        """See `Executor`."""
        self._submitted += 1
        self._queue.append((self._submitted, spec, task))
        return self._submitted

    def pending(self, spec: str) -> int:
        """See `Executor`."""
        return sum(1 for _, queued, _ in self._queue if queued == spec)

    def wait(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        if not self._queue:
            return []
        number, spec, task = self._queue.popleft()
        return [perform(self._workers[spec], task, number, spec)]

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        self._queue.clear()
        return []

    def close(self) -> None:
        """See `Executor`."""
        self._queue.clear()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


def describe(worker: Worker) -> DeviceInfo:
    """What a worker measures on."""
    device, environment = worker.fingerprint()
    return DeviceInfo(worker.spec, device, environment, worker.layout)
