"""Processes for devices: those that die, hang and do not start, and which GPU each of them sees."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import pytest
from executor_examples import SIM, collect, evaluate_task, stages
from farm_examples import EXHAUSTIVE, job
from processes import eventually, marked

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.executors.executor import MeasureTask, Turn, Unopened
from iosfarm.farm.executors.last_words import ended
from iosfarm.farm.executors.process_executor import ProcessExecutor
from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.kernels.cuda.device.probe import Driver
from iosfarm.workers.failures import Failure
from iosfarm.zoo.load import load


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


def test_a_search_goes_on_when_its_workers_die(tmp_path: Path) -> None:
    found, log = {}, tmp_path / "log.jsonl"
    # Some 190 stages: that one of the two happens to none has a chance of 1 in 5,000.
    for executor, faults in (("inline", ""), ("process", "&kill=0.05&oom=0.05")):
        (saved,) = run_jobs(
            [job(load("squeezenet"), device=f"{SIM}{faults}", method=EXHAUSTIVE)],
            database=str(tmp_path / f"{executor}.db"),
            executor=executor,
            policy=Policy(attempts=10),
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


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter that is asked for `cuda` opens the simulated GPU of the number that it is shown, and writes that
    number into the file that is returned. The driver shows three.
    """
    shown, interpreter = tmp_path / "shown", tmp_path / "python"
    interpreter.write_text(
        "#!/bin/sh\n"
        f'echo "$CUDA_VISIBLE_DEVICES" >> {shlex.quote(str(shown))}\n'
        'case "$CUDA_VISIBLE_DEVICES" in *1*) gpu=sim:k80 ;; *) gpu=sim:v100 ;; esac\n'
        f'exec {shlex.quote(sys.executable)} "$1" "$2" "$3" "$4" "$gpu?noise=0"\n'
    )
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr("iosfarm.kernels.cuda.device.probe.probe_driver", lambda: Driver((13, 0), ("A", "B", "C")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return shown


@pytest.fixture
def own_executor() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    executor.close()


def test_every_gpu_has_a_process_that_sees_it_alone(own_executor: ProcessExecutor, stand_in: Path) -> None:
    infos = own_executor.open("cuda")
    assert [info.name for info in infos] == ["cuda#0", "cuda#1", "cuda#2"]
    assert sorted(stand_in.read_text().split()) == ["0", "1", "2"]
    models = [info.device.model for info in infos]
    assert models[0] == models[2] != models[1]
    assert [info.device.instance["device"] for info in infos] == [info.name for info in infos]
    # One that is killed is started again on the same GPU.
    process = own_executor._processes["cuda#1"].popen
    own_executor.submit("cuda#1", evaluate_task(10**9))
    os.killpg(process.pid, signal.SIGKILL)
    (outcome,) = collect(own_executor, "cuda#1")
    assert outcome.failure is Failure.KILLED
    assert stand_in.read_text().split()[3:] == ["1"]
    assert own_executor.open("cuda") == infos


@pytest.mark.parametrize(
    ("selector", "shown", "names", "seen"),
    [
        ("cuda?count=2", "", ["cuda#0", "cuda#1"], {"0", "1"}),
        ("cuda", "GPU-31, GPU-12,2", ["cuda#0", "cuda#1", "cuda#2"], {"GPU-31", "GPU-12", "2"}),
        ("cuda?model=*K80*", "", ["cuda#1"], {"0", "1", "2"}),
        ("cuda:1", "", ["cuda:1"], set()),  # it counts itself
    ],
)
def test_gpus_are_selected(
    own_executor: ProcessExecutor,
    stand_in: Path,
    monkeypatch: pytest.MonkeyPatch,
    selector: str,
    shown: str,
    names: list[str],
    seen: set[str],
) -> None:
    if shown:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert [info.name for info in own_executor.open(selector)] == names
    assert set(stand_in.read_text().split()) == seen
    assert own_executor._processes.keys() == set(names)  # what was opened to see what it is has ended


@pytest.fixture
def broken(stand_in: Path) -> None:
    """The second GPU does not open."""
    interpreter = Path(sys.executable)
    text = interpreter.read_text()
    failing = 'case "$CUDA_VISIBLE_DEVICES" in 1) echo it fell off the bus >&2; exit 3 ;; esac\n'
    interpreter.write_text(text.replace("exec ", f"{failing}exec "))


@pytest.mark.parametrize(
    ("selector", "others"), [("cuda", ["cuda#0", "cuda#2"]), ("cuda?count=2", ["cuda#0", "cuda#2"])]
)
def test_a_gpu_that_does_not_open_is_told_and_those_beside_it_are_used(
    own_executor: ProcessExecutor, broken: None, selector: str, others: list[str]
) -> None:
    assert [info.name for info in own_executor.open(selector)] == others
    (told,) = own_executor.changes()
    assert isinstance(told, Unopened)
    assert told.name == "cuda#1"
    assert told.reason == "cuda: no worker started: exited with 3: it fell off the bus"
    assert own_executor._processes.keys() == set(others)


def test_a_search_goes_on_without_a_gpu_that_does_not_open(
    own_executor: ProcessExecutor, broken: None, tmp_path: Path
) -> None:
    database, log = str(tmp_path / "latency.db"), tmp_path / "log.jsonl"
    (saved,) = run_jobs([job(device="cuda")], database=database, executor=own_executor, log=log)
    assert not saved.result.interrupted
    (note,) = [note for note in saved.result.notes if "did not open" in note]
    assert note.startswith("cuda#1 did not open, and was not used: cuda: no worker started: exited with 3")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["device"] for line in lines if line["event"] == "device_unopened"] == ["cuda#1"]


def test_gpus_that_all_fail_to_open_end_the_search(
    own_executor: ProcessExecutor, stand_in: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(IosfarmError, match="no worker started: exited with 1"):
        own_executor.open("cuda")
    assert not own_executor._processes


def test_a_machine_without_a_driver_says_so(own_executor: ProcessExecutor) -> None:
    if find_library("cuda"):
        pytest.skip("this machine has a driver")
    with pytest.raises(UsageError, match=r"CUDA needs NVIDIA's driver, and libcuda.so.1 was not found"):
        own_executor.open("cuda?count=2")


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (0, b"", "exited with 0"),
        (1, b"one\n  two  words \n\n", "exited with 1: two words"),
        (-9, b"", "ended by SIGKILL"),
        (-35, b"", "ended by signal 35"),  # a real-time signal without a name
        (1, b'ValueError: no\n  File "x.py", line 3\n', "exited with 1: ValueError: no"),
        (1, b"\xff\xfe" + b"x" * 20000 + b"\nlast", "exited with 1: last"),
    ],
)
def test_last_words(code: int, said: bytes, told: str) -> None:
    assert ended(code, said) == told
