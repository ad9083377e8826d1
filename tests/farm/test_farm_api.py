"""Searching from Python: files, rows and errors around the farm's loop."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from farm_examples import SIM, branches, job, recorded

import iosfarm
from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.events import LogError
from iosfarm.farm.interrupt import graceful_interrupt
from iosfarm.farm.output_files import OutputError
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.ir.errors import UsageError
from iosfarm.ir.schedule import Schedule
from iosfarm.search.solver import NoScheduleError


def states(path: Path) -> list[str]:
    with LatencyDatabase(str(path), readonly=True) as database:
        return [str(row.state) for row in reversed(database.searches())]


def test_search_from_python(path: Path) -> None:
    graph = iosfarm.load("sample")
    schedule = iosfarm.search(graph, device="sim:v100", database=str(path))
    assert isinstance(schedule, Schedule)
    assert schedule.place(graph, "nhwc")
    assert schedule.predicted is not None
    assert states(path) == ["finished"]
    assert recorded(path)


def test_search_binds_batch_and_dtype(path: Path) -> None:
    schedule = iosfarm.search(
        iosfarm.load("sample"), device="sim:v100", batch_size=4, dtype="float16", database=str(path)
    )
    with LatencyDatabase(str(path), readonly=True) as database:
        assert {(row.batch, row.dtype) for row in database.query()} == {(4, "float16")}
        (row,) = database.schedules()
        assert (row.batch, row.dtype) == (4, "float16")
    assert schedule.stages


def test_search_with_a_budget_in_stages(path: Path) -> None:
    # A first one for single units, then what may be better than one at a time.
    schedule = iosfarm.search(iosfarm.load("sample"), device="sim:v100", database=str(path), budget="14 stages", gap=0)
    assert len(recorded(path)) == 14
    assert schedule.predicted is not None
    again = iosfarm.search(iosfarm.load("sample"), device="sim:v100", database=str(path), budget="0 stages", gap=0)
    assert again == schedule
    assert len(recorded(path)) == 14
    assert states(path) == ["interrupted", "interrupted"]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"batch_size": 0}, "batch"),
        ({"batch_size": -1}, "batch"),
        ({"dtype": "float12"}, "float12"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cuda"}, "cuda"),
        ({"device": "sim:v1000"}, "v1000"),
        ({"executor": "slurm"}, "unknown executor 'slurm'; use one of ray, process, inline"),
        ({"method": "magic"}, "unknown method 'magic'; use one of certified, exhaustive"),
        ({"gap": -0.01}, "a gap of -0.01; use 0 or more, such as 0.01"),
        ({"gap": float("nan")}, "a gap of nan"),
        ({"certificate": "notarised"}, "unknown certificate 'notarised'; use one of statistical, structural"),
        ({"confidence": 1.0}, "a confidence of 1.0; use 0.5 or more and less than 1, such as 0.99"),
        ({"budget": -1}, "a budget of -1 s; use 0 or more seconds"),
        ({"budget": "soon"}, "budget soon: expected a time such as 10m"),
        ({"max_group_size": 0}, "max_group_size is 0"),
        ({"max_groups": 0}, "max_groups is 0"),
        ({"strategies": ()}, "strategies are []"),
        ({"strategies": ("sideways",)}, "sideways"),
    ],
)
def test_settings_that_cannot_be(path: Path, setting: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        iosfarm.search(branches(), **{"device": "sim:v100", "database": str(path), **setting})  # type: ignore[arg-type]
    assert line in str(caught.value)


def test_inline_never_imports_ray(path: Path) -> None:
    program = (
        "import sys, iosfarm\n"
        f"iosfarm.search(iosfarm.load('sample'), device='sim:v100', database={str(path)!r}, executor='inline')\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'ray'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert recorded(path)


# -- files and rows ------------------------------------------------------------------------------------------------


def test_files_and_rows_of_each_job(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    saved = run_jobs([job(), job(device="sim:k80")], database=str(path), executor="inline", out=out)
    assert [item.path for item in saved] == [
        out / "branches-sim-v100-b1-float32.json",
        out / "branches-sim-k80-b1-float32.json",
    ]
    with LatencyDatabase(str(path), readonly=True) as database:
        rows = {row.device_kind: row for row in database.schedules()}
    for item in saved:
        assert item.path is not None
        content, _ = load(item.path, branches())
        row = rows[item.result.device.device.kind]
        assert row.predicted == item.result.schedule.predicted
        assert row.measured == item.result.latency(item.result.chosen)
        assert row.graph_hash == content.graph_hash
    assert states(path) == ["finished", "finished"]
    assert sorted(out.iterdir()) == sorted(item.path for item in saved if item.path)


def test_jobs_of_one_name_are_wrong_usage(path: Path) -> None:
    with pytest.raises(UsageError, match=r"two jobs are named 'branches-sim-v100-b1-float32'; give one"):
        run_jobs([job(), job(branches(channels=64))], database=str(path), executor="inline")
    assert not path.exists()


def test_an_output_folder_that_cannot_be_written_stops_before_anything_is_measured(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        run_jobs([job()], database=str(path), executor="inline", out=tmp_path / "file" / "below")
    assert not path.exists()


def test_a_schedule_that_cannot_be_written_is_in_the_database(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "branches-sim-v100-b1-float32.json").mkdir(parents=True)  # a folder where the file should be
    with pytest.raises(OutputError, match="cannot write the schedule: Is a directory; what was measured is in the"):
        run_jobs([job(), job(device="sim:k80")], database=str(path), executor="inline", out=out)
    assert states(path) == ["finished", "failed"]
    with LatencyDatabase(str(path), readonly=True) as database:
        assert len(database.schedules()) == 1
    assert [p.name for p in out.iterdir()] == ["branches-sim-v100-b1-float32.json"]


def test_jobs_without_a_schedule_are_recorded_as_failed(path: Path, tmp_path: Path) -> None:
    finished = []
    with pytest.raises(NoScheduleError, match="cannot run on this device"):
        run_jobs(
            [job(branches().bind(dtype="bfloat16")), job()],
            database=str(path),
            executor="inline",
            out=tmp_path,
            finished=lambda saved: finished.append(saved.result.job.name),
        )
    assert states(path) == ["failed", "finished"]
    assert finished == ["branches-sim-v100-b1-float32"]
    load(tmp_path / "branches-sim-v100-b1-float32.json")


def test_a_stopped_search_is_recorded_as_interrupted(path: Path) -> None:
    looks = itertools.count()
    assert run_jobs([job()], database=str(path), executor="inline", stop=lambda: next(looks) > 0) == []
    assert states(path) == ["interrupted"]
    assert outcomes(path) == ["interrupted"]


def test_a_second_interrupt_is_recorded_as_interrupted(path: Path) -> None:
    looks = itertools.count()

    def stop() -> bool:
        if next(looks):  # the first look is before the job begins
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job()], database=str(path), executor="inline", stop=stop)
    assert states(path) == ["interrupted"]
    assert outcomes(path) == ["interrupted"]


def outcomes(path: Path) -> list[str]:
    """Of the runs, the newest first."""
    with LatencyDatabase(str(path), readonly=True) as database:
        return [str(run.outcome) for run in database.runs()]


def test_a_run_has_a_row_that_sums_it_up(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    run_jobs([job(), job(iosfarm.load("sample"))], database=str(path), executor="inline", log=log)
    with LatencyDatabase(str(path), readonly=True) as database:
        (run,) = database.runs()
        measured = len({row.stage_key for row in database.query()})
    assert run.outcome == "finished"
    assert run.models == ("branches", "sample")
    assert run.devices == (SIM,)
    assert run.summary.measured == measured > 0
    assert run.summary.failed == {}
    assert 0 < (run.summary.busy or 0) <= 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    names = [line["event"] for line in lines]
    assert names[0] == "run_started"
    assert names[-1] == "run_finished"
    assert names.count("job_finished") == names.count("job_started") == 2
    assert sum(line["stages"] for line in lines if line["event"] == "task_done") >= measured
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_an_error_of_the_database_is_not_hidden_by_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> list[int]:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(LatencyDatabase, "record_all", broken)
    monkeypatch.setattr(LatencyDatabase, "finish_search", broken)
    with pytest.raises(DatabaseError, match="the disk is full"):
        run_jobs([job()], database=str(path), executor="inline")


# -- interrupts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_one_stops(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    notices = []
    with graceful_interrupt(lambda: notices.append(1)) as interrupt:
        assert not interrupt()
        os.kill(os.getpid(), number)
        assert interrupt.requested
        assert not interrupt.heeded  # nobody has asked since
        assert interrupt()
        assert interrupt.heeded
        assert interrupt.exit_code == 128 + number
        with pytest.raises(KeyboardInterrupt) as second:
            os.kill(os.getpid(), number)
    assert getattr(second.value, "exit_code", None) == 128 + number
    assert notices == [1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_in_another_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with graceful_interrupt() as interrupt:
            seen.append((interrupt(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"executor": "inline", "metrics_port": 8080}, "--metrics-port: metrics are served by Ray; leave it out"),
        ({"executor": "inline", "ray_address": "auto"}, "the inline executor takes no Ray address"),
        ({"executor": "ray", "ray_address": "10.0.0.1:1", "metrics_port": 1}, "the cluster serves metrics on a port"),
    ],
)
def test_settings_that_contradict_each_other(path: Path, named: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        run_jobs([job()], database=str(path), **named)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_log_that_cannot_be_written_is_told_before_anything_is_measured(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="the log cannot be written: No such file or directory; choose another file"):
        run_jobs([job()], database=str(path), executor="inline", log=tmp_path / "nowhere" / "log.jsonl")
    assert not path.exists()
