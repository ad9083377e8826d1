"""Small networks, a real search of one, and an executor that fails as it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from iosfarm.db import LatencyDatabase
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.driver import Driver
from iosfarm.farm.executors.executor import Change, DeviceInfo, EvaluateTask, MeasureTask, Outcome, Task
from iosfarm.farm.executors.inline_executor import InlineExecutor
from iosfarm.farm.jobs.job import Job, JobResult, SearchSettings
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.schedule import Certificate
from iosfarm.ir.stage import Stage
from iosfarm.search.method import Method
from iosfarm.search.space import SpaceSettings
from iosfarm.workers.failures import Failure
from iosfarm.workers.settings import EFFORTS, Effort

SIM = "sim:v100"
EXHAUSTIVE = Method("exhaustive")

SMALL = Policy(most_simulated_stages=2)
"""Tasks of two stages, so that much can happen between two of them."""


def branches(name: str = "branches", channels: int = 32) -> Graph:
    """Two convolutions that can be merged beside a third one and a pool; one part of six units."""
    b = GraphBuilder(name)
    x = b.input((16, 28, 28), name="input")
    with b.unit("a"):
        a = b.conv2d(x, channels, 1, activation="relu")
    with b.unit("b"):
        c = b.conv2d(x, channels, 3, padding=1, activation="relu")
    with b.unit("c"):
        d = b.conv2d(a, channels, 3, padding=1)
    with b.unit("pool"):
        p = b.max_pool(x, 3, stride=1, padding=1)
    with b.unit("join"):
        y = b.concat(c, d, p)
    with b.unit("last"):
        y = b.conv2d(y, 8, 1)
    return b.build(y)


def job(graph: Graph | None = None, label: str = "", device: str = SIM, **settings: object) -> Job:
    """settings: of `SearchSettings`. Without refinement, so that the stages are those of the search space."""
    graph = graph or branches()
    return Job(label or graph.name, graph, device, SearchSettings(**{"refine": False, **settings}))  # type: ignore[arg-type]


def paper_space() -> SpaceSettings:
    return SpaceSettings(2, 2, ("concurrent",))


class Recorder:
    """An inline executor that remembers which stages were measured, in order, and which were measured again.

    efforts: of each stage, how it was measured. evaluated: the schedules' names of each whole network that was run.
    """

    def __init__(self) -> None:
        self.inner = InlineExecutor()
        self.measured: list[str] = []
        self.checked: list[str] = []
        self.efforts: dict[str, list[Effort]] = {}
        self.evaluated: list[list[str]] = []
        self._efforts: dict[int, Effort] = {}

    def open(self, selector: str) -> list[DeviceInfo]:
        return self.inner.open(selector)

    def submit(self, device: str, task: Task) -> int:
        number = self.inner.submit(device, task)
        if isinstance(task, MeasureTask):
            self._efforts[number] = task.effort
        else:
            self.evaluated.append(list(task.schedules))
        return number

    def pending(self, device: str) -> int:
        return self.inner.pending(device)

    def changes(self) -> list[Change]:
        return self.inner.changes()

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        self.inner.restart(device, failure, reason)

    def drop(self, device: str) -> None:
        self.inner.drop(device)

    def wait(self, timeout: float) -> list[Outcome]:
        outcomes = self.inner.wait(timeout)
        for outcome in outcomes:
            effort = self._efforts.get(outcome.task)
            seen = self.checked if effort is Effort.CAREFUL else self.measured
            for measurement in outcome.measurements:
                seen.append(measurement.stage_key)
                self.efforts.setdefault(measurement.stage_key, []).append(effort or Effort.NORMAL)
        return outcomes

    def drain(self, timeout: float) -> list[Outcome]:
        return self.inner.drain(timeout)

    def close(self) -> None:
        self.inner.close()


class Failing(Recorder):
    """Stages for which `fails` says how, fail: `crash` takes the whole task with it, a status is the stage's own."""

    def __init__(self, fails: Callable[[Stage], str | Status | None], evaluation: str = "") -> None:
        super().__init__()
        self.fails = fails
        self.evaluation = evaluation
        self.attempts: dict[str, int] = {}
        self._tasks: dict[int, Task] = {}

    def submit(self, device: str, task: Task) -> int:
        number = super().submit(device, task)
        self._tasks[number] = task
        return number

    def wait(self, timeout: float) -> list[Outcome]:
        return [self._spoiled(outcome) for outcome in super().wait(timeout)]

    def _spoiled(self, outcome: Outcome) -> Outcome:
        task = self._tasks.pop(outcome.task)
        if isinstance(task, EvaluateTask):
            if not self.evaluation:
                return outcome
            return Outcome(outcome.task, outcome.device, error=self.evaluation, failure=Failure.RAISED)
        assert isinstance(task, MeasureTask)
        stages = [Stage.from_json(text) for text in task.stages]
        how = {stage.key: self.fails(stage) for stage in stages}
        for stage in stages:
            if task.effort is not Effort.CAREFUL:
                self.attempts[stage.key] = self.attempts.get(stage.key, 0) + 1
        if "crash" in how.values():
            return Outcome(outcome.task, outcome.device, error="the worker died: killed", failure=Failure.KILLED)
        return Outcome(outcome.task, outcome.device, [_spoil(m, how[m.stage_key]) for m in outcome.measurements])


def _spoil(measurement: Measurement, how: str | Status | None) -> Measurement:
    return Measurement(measurement.stage_key, Status(how), reason="it broke") if how else measurement


def drive(jobs: list[Job], database: LatencyDatabase, executor: object = None, **named: object) -> list[JobResult]:
    """Run jobs; the executor is closed afterwards. named: of `Driver`."""
    used = executor or InlineExecutor()
    try:
        return Driver(jobs, database, used, **named).run()  # type: ignore[arg-type]
    finally:
        used.close()  # type: ignore[attr-defined]


def recorded(path: Path) -> Mapping[str, int]:
    """How many usable measurements the database has of each stage, the careful ones of an answer left out."""
    counts: dict[str, int] = {}
    with LatencyDatabase(str(path), readonly=True) as database:
        for row in database.query():
            checked = row.n >= EFFORTS[Effort.CAREFUL].min_samples
            if row.status in (Status.OK, Status.INFEASIBLE) and not checked:
                counts[row.stage_key] = counts.get(row.stage_key, 0) + 1
    return counts


def certificate(result: JobResult) -> Certificate:
    """Of the schedule that was searched for."""
    found = result.schedules["optimised"].certificate
    assert found is not None
    return found
