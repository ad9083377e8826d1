"""The contract of what carries tasks to devices.

An executor holds one worker for each device. A worker does one task at a time, in the order of submission.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import DeviceLost
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Measurement
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.ir.schedule import STAGES, Schedule
from iosfarm.kernels.runtime import Weights
from iosfarm.workers.evaluating import Evaluation, EvaluationSettings
from iosfarm.workers.failures import Failure
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.workers.worker import Worker

MEASURES_AHEAD = 2
"""Tasks that wait on a device at most: enough to keep it busy, few enough to lose little."""


@dataclass(frozen=True)
class DeviceInfo:
    """A device as its worker describes it. spec: what opens it. name: tells it from all others of the executor (of one
    alone it is the spec). node: the machine. forms: in which it executes schedules. plan_scope: who has the same plans;
    None: it has none.
    """

    spec: str
    device: Device
    environment: Environment
    layout: str
    name: str = ""
    node: str = ""
    forms: tuple[str, ...] = (STAGES,)
    plan_scope: PlanScope | None = None

    @property
    def pool(self) -> tuple[str, str, str]:
        """The same for devices that stand in for each other: what one has measured, none of the others need."""
        return self.device.key, self.environment.hard_key, self.layout


@dataclass(frozen=True)
class MeasureTask:
    """Stages to measure, as canonical JSON. plans: that the worker is told first."""

    stages: tuple[str, ...]
    effort: Effort = Effort.NORMAL
    plans: tuple[Plan, ...] = ()


@dataclass(frozen=True)
class EvaluateTask:
    """Schedules of one graph to check and time end to end. weights None: random ones from `seed`. plans: that
    the worker is told first.
    """

    graph: Graph
    schedules: Mapping[str, Schedule]
    weights: Weights | None
    seed: int
    settings: EvaluationSettings
    plans: tuple[Plan, ...] = ()


Task = MeasureTask | EvaluateTask


@dataclass(frozen=True)
class Outcome:
    """What became of task number `task`. error: why the worker could not do it (the infrastructure's fault), of the
    kind `failure`. seconds: that the worker was busy with it. plans: that it has found or used and was not told.
    """

    task: int
    device: str
    measurements: Sequence[Measurement] = ()
    evaluation: Evaluation | None = None
    error: str = ""
    failure: Failure | None = None
    seconds: float = 0.0
    plans: tuple[Plan, ...] = ()


class Turn(StrEnum):
    """What has happened to a device."""

    JOINED = "joined"  # found after its selector was opened
    LOST = "lost"  # its worker has ended; another one is on its way
    RESTORED = "restored"  # and is there
    LEFT = "left"  # gone for good


@dataclass(frozen=True)
class Change:
    """A turn of a device. selector: that found it, for one that has joined. reason: why it was lost, or left."""

    turn: Turn
    info: DeviceInfo
    selector: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Unopened:
    """A device that was not opened, beside others of its selector that were."""

    name: str
    reason: str


class Executor(Protocol):
    """Carries tasks to devices, which are known by `DeviceInfo.name`. Used by one thread; closing it leaves nothing
    running.

    A task of a worker that ends early has an outcome with an error: `LOST` where it had not begun.
    """

    def open(self, selector: str) -> list[DeviceInfo]:
        """Start a worker on each device that is selected, where none runs, and ask what they are. Opening twice opens
        once. Some that do not open are left out, which `changes` tells.

        Raises:
            UsageError: no such device here. IosfarmError: no worker started.
        """
        ...

    def submit(self, device: str, task: Task) -> int:
        """Queue a task on an open device; returns its number."""
        ...

    def pending(self, device: str) -> int:
        """Tasks of a device that are queued or under way."""
        ...

    def wait(self, timeout: float) -> list[Outcome]:
        """What has ended, waiting up to `timeout` seconds for something to end. An executor without threads of its
        own does a task in this call, and returns when it is done.
        """
        ...

    def changes(self) -> list[Change | Unopened]:
        """What has happened to devices since the last call; to be asked often."""
        ...

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        """End a device's worker, which hangs, and start another one. What was under way there fails, as said."""
        ...

    def drop(self, device: str) -> None:
        """End a device's worker for good; what it had to do fails as `LOST`. Nothing where it has left already."""
        ...

    def drain(self, timeout: float) -> list[Outcome]:
        """Before stopping: forget what is queued, and wait up to `timeout` seconds for what is under way."""
        ...

    def close(self) -> None:
        """Stop the workers; what is under way is given up. Closing twice is allowed."""
        ...


def perform(worker: Worker, task: Task, number: int, device: str) -> Outcome:
    """Do a task with a worker; an exception becomes an outcome with an error."""
    began = time.monotonic()
    measured: list[Measurement] = []
    evaluation: Evaluation | None = None
    try:
        worker.tell_plans(task.plans)
        if isinstance(task, MeasureTask):
            measured = worker.measure(list(task.stages), EFFORTS[task.effort])
        else:
            evaluation = worker.evaluate(task.graph, task.schedules, task.weights, task.seed, task.settings)
        seconds = time.monotonic() - began
        return Outcome(number, device, measured, evaluation, seconds=seconds, plans=worker.take_plans())
    except Exception as error:
        kinds = {DeviceLost: Failure.KILLED, MemoryError: Failure.OUT_OF_MEMORY}
        failure = next((kind for cause, kind in kinds.items() if isinstance(error, cause)), Failure.RAISED)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(number, device, error=text, failure=failure, seconds=time.monotonic() - began)


def describe(worker: Worker, name: str = "", node: str = "") -> DeviceInfo:
    """What a worker measures on."""
    device, environment = worker.fingerprint()
    name = name or worker.spec
    return DeviceInfo(worker.spec, device, environment, worker.layout, name, node, worker.forms, worker.plan_scope)
