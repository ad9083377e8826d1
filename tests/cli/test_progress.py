"""What a search says of itself while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from iosfarm.cli.progress import ProgressDisplay
from iosfarm.farm.driver import Progress

PROGRESS = Progress(
    stages=172,
    known=60,
    measured=20,
    checked=3,
    failed=1,
    gap=0.0623,
    finished_jobs=0,
    jobs=2,
    busy={"cpu": 2, "sim:v100": 0},
    message="checking schedules end to end",
)


def test_a_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 175.0, 175.0, 175.0])
    monkeypatch.setattr("iosfarm.cli.progress.monotonic", lambda: next(clock))
    log = io.StringIO()
    with ProgressDisplay(Console(file=log, width=40)) as display:
        display.update(PROGRESS)
    assert log.getvalue().splitlines() == [
        "starting",
        "20 measured now, 60/172 stages known, gap 6.2%, 3 measured again, 1 failed, 1 min 15 s, 0/2 jobs, cpu: busy, "
        "sim:v100: idle, checking schedules end to end",
    ]
