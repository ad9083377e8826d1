"""The contract of executors: on Ray, with a process for each device, and in this process."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, branches, job
from processes import MARK, eventually, marked

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.executor import DeviceInfo, EvaluateTask, Executor, MeasureTask, Outcome, Turn
from iosfarm.farm.inline_executor import InlineExecutor
from iosfarm.farm.job_search import JobSearch
from iosfarm.farm.process_executor import ProcessExecutor
from iosfarm.farm.ray_executor import RayExecutor
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut
from iosfarm.workers.evaluating import EvaluationSettings
from iosfarm.workers.failures import Failure
from iosfarm.zoo.load import load
from iosfarm.zoo.weights import random_weights

SIM = "sim:v100?noise=0"


@pytest.fixture(scope="module")
def mark() -> Iterator[str]:
    """All processes that are started from here on carry it."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    yield mark
    del os.environ[MARK]


@pytest.fixture(scope="module")
def ray_executor(mark: str) -> Iterator[RayExecutor]:
    """One for all tests of this file: starting Ray takes seconds."""
    executor = RayExecutor()
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def process_executor(mark: str) -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor()
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


def stages(info: DeviceInfo) -> list[str]:
    """Canonical texts of all stages of a network."""
    requests = JobSearch(job(load("squeezenet"), device=info.spec, method=EXHAUSTIVE), info).next(10**6)
    return [request.stage.canonical for request in requests.values()]


def evaluate_task(rounds: int = 3, layout: str = "nhwc", **changes: object) -> EvaluateTask:
    graph = branches()
    schedule = sequential(graph, cut(graph), layout)
    values = {"graph": graph, "schedules": {"sequential": schedule}, "weights": None, "seed": 0, **changes}
    return EvaluateTask(**values, settings=EvaluationSettings(rounds, max_rounds=rounds, check=False))  # type: ignore[arg-type]


def collect(executor: Executor, spec: str) -> list[Outcome]:
    """Everything that was submitted for a device."""
    outcomes: list[Outcome] = []
    assert eventually(lambda: bool(outcomes.extend(executor.wait(1.0))) or not executor.pending(spec), 120)
    return outcomes


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


def test_a_worker_that_dies_while_it_has_nothing_to_do(process_executor: ProcessExecutor) -> None:
    texts = tuple(stages(process_executor.open(SIM)[0])[:2])
    process_executor.submit(SIM, MeasureTask(texts))
    (outcome,) = collect(process_executor, SIM)
    process_executor.changes()
    os.kill(int(outcome.measurements[0].worker.split(":")[1]), signal.SIGKILL)
    assert eventually(lambda: process_executor._processes[SIM].popen.poll() is not None)
    number = process_executor.submit(SIM, MeasureTask(texts))
    (lost,) = collect(process_executor, SIM)
    assert (lost.task, lost.failure) == (number, Failure.LOST)  # it is not the task's fault
    assert "SIGKILL" in lost.error
    assert [change.turn for change in process_executor.changes()] == [Turn.LOST, Turn.RESTORED]
    process_executor.submit(SIM, MeasureTask(texts))
    assert [o.failure for o in collect(process_executor, SIM)] == [None]


def test_a_process_that_hangs_is_replaced_and_goes_on_with_what_is_queued(process_executor: ProcessExecutor) -> None:
    texts = tuple(stages(process_executor.open(SIM)[0])[:2])
    hung = process_executor.submit(SIM, evaluate_task(10**9))
    queued = process_executor.submit(SIM, MeasureTask(texts))
    process_executor.restart(SIM, Failure.HUNG, "no answer")
    outcomes = {o.task: o for o in collect(process_executor, SIM)}
    assert outcomes[hung].failure is Failure.HUNG
    assert outcomes[queued].failure is None
    assert process_executor.drain(0.0) == []


def test_what_was_given_up_takes_no_time_from_what_comes_next(process_executor: ProcessExecutor) -> None:
    process_executor.open(SIM)
    process_executor.submit(SIM, evaluate_task(10**9))
    assert process_executor.drain(0.1) == []
    number = process_executor.submit(SIM, evaluate_task())
    assert [o.task for o in collect(process_executor, SIM)] == [number]


def test_what_a_dropped_process_had_to_do_is_lost(process_executor: ProcessExecutor) -> None:
    spec = "sim:k80?noise=0"
    texts = tuple(stages(process_executor.open(spec)[0])[:2])
    numbers = [process_executor.submit(spec, evaluate_task(10**9)), process_executor.submit(spec, MeasureTask(texts))]
    process_executor.drop(spec)
    process_executor.drop(spec)
    lost = process_executor.wait(0.0)
    assert [(o.task, o.failure) for o in lost] == [(number, Failure.LOST) for number in numbers]
    assert process_executor.open(spec) == []


def test_a_device_that_cannot_be_opened_again_has_left(
    process_executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = "sim:h200?noise=0"
    texts = tuple(stages(process_executor.open(spec)[0])[:2])
    process_executor.changes()
    number, queued = (process_executor.submit(spec, task) for task in (evaluate_task(10**9), MeasureTask(texts)))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    os.killpg(process_executor._processes[spec].popen.pid, signal.SIGKILL)
    outcomes = {o.task: o for o in collect(process_executor, spec)}
    assert [outcomes[n].failure for n in (number, queued)] == [Failure.KILLED, Failure.LOST]
    changes = process_executor.changes()
    assert [change.turn for change in changes] == [Turn.LOST, Turn.LEFT]
    assert "no worker started: exited with 1" in changes[-1].reason
    assert process_executor.open(spec) == []


def test_closing_ends_all_processes_whatever_they_do(mark: str) -> None:
    executor = ProcessExecutor()
    before = marked(mark)
    executor.open(SIM)
    executor.open("sim:k80")
    executor.submit(SIM, evaluate_task(10**9))
    assert len(marked(mark)) == len(before) + 2
    executor.close()
    assert marked(mark).keys() == before.keys()
    executor.close()


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


def test_a_search_goes_on_when_its_workers_die(tmp_path: Path) -> None:
    found, log = {}, tmp_path / "log.jsonl"
    for executor, faults in (("inline", ""), ("process", "&kill=0.02&oom=0.02")):
        (saved,) = run_jobs(
            [job(load("squeezenet"), device=f"{SIM}{faults}", method=EXHAUSTIVE)],
            database=str(tmp_path / f"{executor}.db"),
            executor=executor,
            log=log if faults else None,
        )
        found[executor] = saved.result
    assert found["process"].schedules["optimised"].predicted == found["inline"].schedules["optimised"].predicted
    assert found["process"].counts.failed == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["kind"] for line in lines if line["event"] == "failed"} == {"killed", "out_of_memory"}
    with LatencyDatabase(str(tmp_path / "process.db"), readonly=True) as database:
        measured = {row.stage_key for row in database.query() if row.status == "ok"}
    assert len(measured) == found["process"].counts.stages
