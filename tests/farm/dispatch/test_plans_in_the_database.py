"""Plans that one search has found are not looked for by the next, wherever that runs: the database has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, drive, job
from host_gpu import FACTS, HostGpu
from host_kernels import needs_compiler
from host_runtime import host_runtime

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.farm.dispatch.sharing_plans import SharingPlans
from iosfarm.farm.executors.executor import Change, DeviceInfo, MeasureTask, Outcome, Task, Turn
from iosfarm.farm.executors.process_executor import ProcessExecutor
from iosfarm.farm.jobs.job import JobResult
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.kernels.cuda.program import tuning
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.providers.trials import Trials
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.workers.evaluating import EvaluationSettings
from iosfarm.workers.failures import Failure
from iosfarm.workers.worker import Worker

SCOPE = PlanScope("Host", {"provider": "iosfarm"})
DEVICE = "cuda?provider=iosfarm"


def pair() -> Graph:
    b = GraphBuilder("pair")
    x = b.input((4, 5, 5))
    return b.build(b.add(b.conv2d(x, 4, 1, activation="relu"), b.conv2d(x, 4, 3, padding=1)))


def search(database: LatencyDatabase) -> JobResult:
    """Kernels on the host are slow: as little as makes a whole search."""
    quick = EvaluationSettings(rounds=1, max_rounds=1, seconds=0.1)
    (result,) = drive([job(pair(), device=DEVICE, method=EXHAUSTIVE)], database, evaluation=quick)
    return result


@dataclass
class Machine:
    """A machine with a GPU. folder: of its cache. timed: names of calls, orders: how many of launches were tried."""

    folder: Path
    timed: list[str] = field(default_factory=list)
    orders: int = 0

    def open(self, spec: str) -> CudaRuntime:
        return host_runtime(HostGpu(), plans=PlanCache(self.folder, SCOPE), most=2)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "first")
    honest_seconds, honest_tuned = Trials.seconds, tuning.tuned

    def seconds(self: Trials, call: object, trial: object) -> float:
        machine.timed.append(call.name)  # type: ignore[attr-defined]
        return honest_seconds(self, call, trial)  # type: ignore[arg-type]

    def tuned(starts: object, needed: object, seconds_of: Callable[[object], float]) -> object:
        def counted(order: object) -> float:
            machine.orders += 1
            return seconds_of(order)

        ticks = count()
        return honest_tuned(starts, needed, counted, budget=3, clock=lambda: float(next(ticks)))  # type: ignore[arg-type]

    monkeypatch.setattr(Trials, "seconds", seconds)
    monkeypatch.setattr("iosfarm.kernels.cuda.runtime.tuned", tuned)
    monkeypatch.setattr("iosfarm.kernels.open_runtime", machine.open)
    graph = pair()
    small = canonical_stage(graph, [[0]], layout="nhwc").stage
    monkeypatch.setattr("iosfarm.workers.measuring.reference_stage", lambda layout: small)
    return machine


@needs_compiler
def test_a_second_search_on_another_machine_times_no_plan(machine: Machine, database: LatencyDatabase) -> None:
    first = search(database)
    assert machine.timed
    assert machine.orders
    known = database.plans(SCOPE)
    assert any(plan.key.startswith("order") for plan in known)
    assert database.stats().plans == len(known)
    machine.folder, machine.timed, machine.orders = machine.folder.with_name("second"), [], 0
    with LatencyDatabase("sqlite://") as other:
        other.record_plans(SCOPE, known)
        second = search(other)
        assert (machine.timed, machine.orders) == ([], 0)
        assert other.plans(SCOPE) == known
    assert second.counts.measured == first.counts.measured > 0


@needs_compiler
def test_poisoned_plans_cost_time_only(machine: Machine, database: LatencyDatabase) -> None:
    search(database)
    known = database.plans(SCOPE)
    machine.folder, machine.timed = machine.folder.with_name("second"), []
    with LatencyDatabase("sqlite://") as other:
        poison = [Plan(plan.key, "no such plan", seconds) for plan, seconds in zip(known, _absurd(), strict=False)]
        other.record_plans(SCOPE, poison)
        result = search(other)
        assert machine.timed
        assert max(result.errors.values()) <= 1e-5
        replaced = {plan.key for plan in other.plans(SCOPE) if plan.name != "no such plan"}
        # What a call takes is asked for by its key alone, and a separable unit may be computed one by one.
        assert {key for key in (plan.key for plan in known) if key.startswith(("own", "order"))} <= replaced


def _absurd() -> Iterator[float]:
    while True:
        yield 1e-300
        yield 1e300


class Pair:
    """Two devices of one scope and one without plans. finds: what each finds with its next task."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, Task]] = []
        self.finds: dict[str, tuple[Plan, ...]] = {}
        self.happened: list[Change] = []
        scopes = {"one": SCOPE, "other": SCOPE, "cpu": None}
        self.infos = {
            name: DeviceInfo(name, Device("cuda", name), Environment({}), "nhwc", name, plan_scope=scope)
            for name, scope in scopes.items()
        }

    def open(self, selector: str) -> list[DeviceInfo]:
        return [info for name, info in self.infos.items() if selector in ("all", name)]

    def submit(self, device: str, task: Task) -> int:
        self.tasks.append((device, task))
        return len(self.tasks)

    def pending(self, device: str) -> int:
        return 0

    def wait(self, timeout: float) -> list[Outcome]:
        number, (device, _) = len(self.tasks), self.tasks[-1]
        return [Outcome(number, device, plans=self.finds.pop(device, ()))]

    def changes(self) -> list[Change]:
        happened, self.happened = self.happened, []
        return happened

    def restart(self, device: str, failure: Failure, reason: str) -> None: ...

    def drop(self, device: str) -> None: ...

    def drain(self, timeout: float) -> list[Outcome]:
        return self.wait(timeout)

    def close(self) -> None: ...


def ask(sharing: SharingPlans, inner: Pair, device: str) -> set[str]:
    """Names of the plans that a device is told with a task that is done at once."""
    sharing.submit(device, MeasureTask(()))
    sharing.wait(0)
    return {plan.name for plan in inner.tasks[-1][1].plans}


def test_each_device_is_told_once_what_others_have_found(database: LatencyDatabase) -> None:
    database.record_plans(SCOPE, [Plan("a", "old", 1.0)])
    inner = Pair()
    sharing = SharingPlans(inner, database)
    sharing.open("all")
    inner.finds["one"] = (Plan("b", "new", 1.0), Plan("a", "better", 1.0))
    assert ask(sharing, inner, "one") == {"old"}
    assert ask(sharing, inner, "one") == set()  # it knows what it has found
    assert ask(sharing, inner, "other") == {"better", "new"}
    assert ask(sharing, inner, "other") == set()
    assert ask(sharing, inner, "cpu") == set()
    assert database.plans(SCOPE) == [Plan("a", "better", 1.0), Plan("b", "new", 1.0)]
    inner.happened = [Change(turn, inner.infos["one"]) for turn in (Turn.LOST, Turn.RESTORED)]
    sharing.changes()
    assert ask(sharing, inner, "one") == {"better", "new"}  # another worker


def test_a_device_that_joins_later_is_told_too(database: LatencyDatabase) -> None:
    database.record_plans(SCOPE, [Plan("a", "old", 1.0)])
    inner = Pair()
    sharing = SharingPlans(inner, database)
    sharing.open("one")
    assert ask(sharing, inner, "other") == set()
    inner.happened = [Change(Turn.JOINED, inner.infos["other"])]
    sharing.changes()
    assert ask(sharing, inner, "other") == {"old"}


def test_plans_that_cannot_be_recorded_wait(database: LatencyDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Pair()
    sharing = SharingPlans(inner, database)
    sharing.open("all")

    def refuse(*_: object) -> None:
        raise DatabaseError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(LatencyDatabase, "record_plans", refuse)
        inner.finds["one"] = (Plan("a", "first", 1.0),)
        assert ask(sharing, inner, "one") == set()
        assert ask(sharing, inner, "other") == {"first"}
    inner.finds["other"] = (Plan("b", "second", 1.0),)
    ask(sharing, inner, "other")
    assert [plan.name for plan in database.plans(SCOPE)] == ["first", "second"]


def test_workers_without_plans_say_so() -> None:
    with closing(Worker("sim:v100")) as worker:
        worker.tell_plans([Plan("a", "b", 1.0)])
        assert (worker.plan_scope, worker.take_plans()) == (None, ())


def test_tasks_with_plans_reach_a_process() -> None:
    with closing(ProcessExecutor()) as executor:
        (info,) = executor.open("sim:v100")
        assert info.plan_scope is None
        number = executor.submit(info.name, MeasureTask((), plans=(Plan("a", "b", 1.0),)))
        (outcome,) = executor.wait(60)
        assert (outcome.task, outcome.error, outcome.plans) == (number, "", ())


def test_the_facts_of_the_host_are_a_gpu_s() -> None:
    assert FACTS.name == SCOPE.model
