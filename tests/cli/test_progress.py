"""What a search says of itself while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from iosfarm.cli.progress import ProgressDisplay, screen
from iosfarm.farm.progress import DeviceProgress, JobProgress, Progress

JOB = JobProgress("squeezenet-cpu-b1-float32", 172, 40, 20, 3, 1, 0.0623, "checking")
DEVICES = (DeviceProgress("cpu", "busy", 20, 0.97, {}), DeviceProgress("sim:v100", "idle", 0, 0.0, {"killed": 2}))
PROGRESS = Progress(
    jobs=(JOB, JobProgress("vgg_16-cpu-b1-float32", 0, 0, 0, 0, 0, None, "waiting")),
    devices=DEVICES,
    rate=12.5,
    seconds=75.0,
    message="checking schedules end to end",
    failures={"killed": 2},
)


def logged(*reports: Progress) -> list[str]:
    log = io.StringIO()
    with ProgressDisplay(Console(file=log, width=40)) as display:
        for report in reports:
            display.update(report)
    return log.getvalue().splitlines()


def test_a_line_of_the_log() -> None:
    assert logged(PROGRESS) == [
        "starting",
        "20 measured now, 60/172 stages known, gap 6.2%, 3 measured again, 1 given up, failures: killed 2, 1 min 15 s, "
        "0/2 jobs, cpu: busy, sim:v100: idle, checking schedules end to end",
    ]


def test_a_log_does_not_repeat_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("iosfarm.cli.progress.monotonic", lambda: now)
    waits = [Progress(message=f"waiting for the database for {n} s (no server)") for n in range(3)]
    assert logged(PROGRESS, PROGRESS, *waits)[2:] == ["waiting for the database for 0 s (no server)"]


def test_a_screen_has_lines_for_jobs_and_devices() -> None:
    second = JobProgress("nasnet-cpu-b1-float32", 900, 0, 10, 0, 0, 0.2, "searching")
    many = tuple(DeviceProgress(f"sim:v100#{n}", "busy", n, 0.9, {"hung": 1} if n == 9 else {}) for n in range(10))
    lines = screen(Progress(jobs=(JOB, second), devices=many, rate=12.5, seconds=1.0))
    assert "10 devices: 10 busy, 12.5 stages/s, busy 90%" in lines[0]
    assert lines[1] == "  nasnet-cpu-b1-float32: 10 measured, 0 found of 900, gap 20.0%, searching"
    assert lines[3] == "  sim:v100#9: busy, 9 measured, busy 90%, failures: hung 1"  # who fails comes first
    assert lines[-1] == "  and 2 more devices"
