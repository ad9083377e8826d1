"""The contract of executors: on Ray, with a process for each device, and in this process."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_examples import SIM, collect, evaluate_task, stages
from farm_examples import branches
from processes import eventually, marked

from iosfarm.farm.executors.executor import Executor, MeasureTask, Turn
from iosfarm.farm.executors.inline_executor import InlineExecutor
from iosfarm.farm.executors.process_executor import ProcessExecutor
from iosfarm.farm.executors.ray_executor import RayExecutor
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut
from iosfarm.workers.failures import Failure
from iosfarm.zoo.load import load
from iosfarm.zoo.weights import random_weights


@pytest.fixture(scope="module")
def ray_executor(mark: str) -> Iterator[RayExecutor]:
    """One for all tests of this file: starting Ray takes seconds."""
    executor = RayExecutor()
    yield executor
    executor.close()


@pytest.fixture(params=["inline", "process", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param != "inline":
        yield request.getfixturevalue(f"{request.param}_executor")
        return
    inline = InlineExecutor()
    yield inline
    inline.close()


@pytest.fixture(params=["process", "ray"])
def isolated(request: pytest.FixtureRequest) -> Executor:
    """Workers are other processes."""
    executor: Executor = request.getfixturevalue(f"{request.param}_executor")
    return executor


def test_opening_twice_opens_once(executor: Executor, mark: str) -> None:
    (first,) = executor.open(SIM)
    before = marked(mark)
    assert executor.open(SIM) == [first]
    assert marked(mark).keys() == before.keys()
    assert first.spec == first.name == SIM
    assert first.device.simulated
    assert first.layout == "nhwc"
    assert pickle.loads(pickle.dumps(first)) == first


@pytest.mark.parametrize("spec", ["sim:nothing", "tpu", "cuda", "sim:v100?noise=no"])
def test_an_unknown_device_is_wrong_usage(executor: Executor, spec: str) -> None:
    for _ in range(2):
        with pytest.raises(UsageError) as caught:
            executor.open(spec)
        assert "\n" not in str(caught.value)
        assert spec in str(caught.value) or "noise" in str(caught.value) or "nothing" in str(caught.value)
    # Other devices are none the worse for it.
    assert executor.open(SIM)[0].spec == SIM


def test_nothing_to_wait_for(executor: Executor) -> None:
    executor.open(SIM)
    assert executor.pending(SIM) == 0
    assert executor.wait(60.0) == []
    assert executor.drain(60.0) == []


def test_tasks_of_a_device_run_one_at_a_time_and_in_order(executor: Executor) -> None:
    texts = stages(executor.open(SIM)[0])
    numbers = [executor.submit(SIM, MeasureTask(tuple(texts))) for _ in range(4)]
    assert executor.pending(SIM) == 4
    outcomes = collect(executor, SIM)
    assert executor.pending(SIM) == 0
    assert [o.task for o in outcomes] == numbers
    # A worker refuses a second task while it is busy with one.
    assert [o.error for o in outcomes] == [""] * 4
    times = [m.measured_at for o in outcomes for m in o.measurements]
    assert len(times) == 4 * len(texts)
    assert times == sorted(times)
    assert len({m.worker for o in outcomes for m in o.measurements}) == 1
    assert {m.status for o in outcomes for m in o.measurements} == {Status.OK}


def test_a_measurement_is_the_same_everywhere(executor: Executor) -> None:
    texts = stages(executor.open(SIM)[0])[:5]
    executor.submit(SIM, MeasureTask(tuple(texts)))
    (outcome,) = collect(executor, SIM)
    with_other = InlineExecutor()
    with_other.open(SIM)
    with_other.submit(SIM, MeasureTask(tuple(texts)))
    (other,) = collect(with_other, SIM)
    with_other.close()
    assert [m.median for m in outcome.measurements] == [m.median for m in other.measurements]
    assert [m.stage_key for m in outcome.measurements] == [m.stage_key for m in other.measurements]


def test_devices_do_not_wait_for_each_other(executor: Executor) -> None:
    texts = tuple(stages(executor.open(SIM)[0])[:2])
    executor.open("sim:k80")
    numbers = {spec: executor.submit(spec, MeasureTask(texts)) for spec in (SIM, "sim:k80")}
    outcomes = {o.device: o for o in collect(executor, SIM) + collect(executor, "sim:k80")}
    assert {spec: o.task for spec, o in outcomes.items()} == numbers
    assert outcomes[SIM].measurements[0].median != outcomes["sim:k80"].measurements[0].median


def test_schedules_run_on_weights_that_are_sent_along(executor: Executor) -> None:
    executor.open("cpu")
    weights = random_weights(branches(), 1)
    number = executor.submit("cpu", evaluate_task(weights=weights))
    (outcome,) = collect(executor, "cpu")
    assert outcome.error == ""
    assert outcome.task == number
    assert outcome.evaluation is not None
    assert len(outcome.evaluation.latencies["sequential"].samples) == 3


def test_an_error_becomes_an_outcome(executor: Executor) -> None:
    executor.open(SIM)
    other = load("sample")
    wrong = {"sequential": sequential(other, cut(other), "nhwc")}
    numbers = [executor.submit(SIM, evaluate_task(schedules=wrong)), executor.submit(SIM, evaluate_task())]
    failed, fine = collect(executor, SIM)
    assert [failed.task, fine.task] == numbers
    assert "has no unit" in failed.error
    assert failed.evaluation is None
    assert fine.error == ""
    assert fine.evaluation is not None


def test_draining_forgets_what_is_queued(executor: Executor) -> None:
    texts = tuple(stages(executor.open(SIM)[0])[:2])
    numbers = [executor.submit(SIM, MeasureTask(texts)) for _ in range(3)]
    assert [o.task for o in executor.drain(60.0)] in ([], numbers[:1])
    assert executor.pending(SIM) == 0
    assert executor.wait(0.0) == []
    last = executor.submit(SIM, MeasureTask(texts))
    assert [o.task for o in collect(executor, SIM)] == [last]


def test_a_worker_that_is_killed_in_the_middle_of_a_task(isolated: Executor) -> None:
    texts = tuple(stages(isolated.open(SIM)[0])[:2])
    isolated.submit(SIM, MeasureTask(texts))
    (outcome,) = collect(isolated, SIM)
    process = int(outcome.measurements[0].worker.split(":")[1])
    endless, queued = isolated.submit(SIM, evaluate_task(10**9)), isolated.submit(SIM, MeasureTask(texts))
    assert isolated.wait(0.5) == []
    os.kill(process, signal.SIGKILL)
    outcomes = {o.task: o for o in collect(isolated, SIM)}
    assert outcomes.keys() == {endless, queued}
    assert "the worker died" in outcomes[endless].error
    # What was queued has died with it, or has been done by its successor.
    isolated.submit(SIM, MeasureTask(texts))
    (after,) = collect(isolated, SIM)
    assert after.error == ""
    assert [m.status for m in after.measurements] == [Status.OK] * 2
    assert int(after.measurements[0].worker.split(":")[1]) != process


def test_draining_gives_up_on_what_takes_too_long(isolated: Executor) -> None:
    spec = "sim:h200"
    isolated.open(spec)
    isolated.submit(spec, evaluate_task(10**9))
    assert isolated.drain(0.5) == []
    assert isolated.pending(spec) == 0


def test_workers_of_a_ray_of_our_own_inherit_what_they_are_to_know(ray_executor: RayExecutor) -> None:
    """Also one that is started later. It is not asked for: that would take Ray's agent, and seconds."""
    ray_executor.open(SIM)
    known = {"IOSFARM_WORKER_PROCESS=1", f"OMP_NUM_THREADS={os.cpu_count()}"}
    assert known <= environment_of(ray_executor)
    ray_executor.restart(SIM, Failure.KILLED, "to see another one")
    turns: list[Turn] = []
    assert eventually(lambda: bool(turns.extend(c.turn for c in ray_executor.changes())) or Turn.RESTORED in turns)
    assert known <= environment_of(ray_executor)
    assert "IOSFARM_WORKER_PROCESS" not in os.environ


def environment_of(executor: RayExecutor) -> set[str]:
    """What the process of a device began with."""
    process = executor._ray.get(executor._hosts[SIM].actor.process.remote())
    return set(Path(f"/proc/{process}/environ").read_text().split("\0"))


def test_a_worker_that_ray_ends_for_want_of_memory_is_replaced(
    ray_executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray tells of it by an error that is none of an actor's; to fill this machine's memory is left to others."""
    (info,) = ray_executor.open(SIM)
    texts = tuple(stages(info)[:2])
    ray_executor.submit(SIM, MeasureTask(texts))
    collect(ray_executor, SIM)
    ray_executor.changes()  # of the tests before
    get = ray_executor._ray.get
    pressed = iter([True])

    def short_of_memory(reference: object, **named: object) -> object:
        if next(pressed, False):
            raise ray_executor._ray.exceptions.OutOfMemoryError("a worker was killed: the node runs low on memory")
        return get(reference, **named)

    monkeypatch.setattr(ray_executor._ray, "get", short_of_memory)
    numbers = [ray_executor.submit(SIM, MeasureTask(texts)) for _ in range(2)]
    outcomes = collect(ray_executor, SIM)
    assert [(o.task, o.failure) for o in outcomes] == [
        (numbers[0], Failure.OUT_OF_MEMORY),
        (numbers[1], Failure.LOST),  # it had not begun
    ]
    turns: list[Turn] = []
    assert eventually(lambda: bool(turns.extend(c.turn for c in ray_executor.changes())) or Turn.RESTORED in turns)
    assert turns == [Turn.LOST, Turn.RESTORED]
    ray_executor.submit(SIM, MeasureTask(texts))
    assert [o.failure for o in collect(ray_executor, SIM)] == [None]


def test_closing_leaves_nothing_running(
    ray_executor: RayExecutor, process_executor: ProcessExecutor, mark: str
) -> None:
    process_executor.close()
    # The last test of this file: a task is under way, and Ray is not started again.
    ray_executor.open(SIM)
    ray_executor.submit(SIM, evaluate_task(10**9))
    running = " ".join(marked(mark).values())
    assert "raylet" in running
    assert "gcs_server" in running
    ray_executor.close()
    assert eventually(lambda: not marked(mark)), marked(mark)
    ray_executor.close()


def test_closing_the_inline_executor_forgets_what_is_queued() -> None:
    executor = InlineExecutor()
    texts = stages(executor.open(SIM)[0])
    executor.submit(SIM, MeasureTask(tuple(texts)))
    executor.close()
    assert executor.pending(SIM) == 0
    assert executor.wait(0.0) == []
    executor.close()
