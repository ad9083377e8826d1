"""Two processes with one device take turns, and wait for ever for nobody."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from iosfarm.ir.device import Device
from iosfarm.workers.turns import lock_files, turn

CPU = Device("cpu", "Example", {}, {"host": "here"})

HOLD = """
import sys
from iosfarm.ir.device import Device
from iosfarm.workers.turns import turn
with turn(Device("cpu", "Example", {}, {"host": "here"})) as alone:
    print(alone, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that has the device."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


class Time:
    """Passes when somebody sleeps; `after` that many sleeps something happens."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1


def test_nobody_else() -> None:
    for _ in range(2):
        with turn(CPU) as alone:
            assert alone


def test_impatience(holder: subprocess.Popen[str]) -> None:
    time = Time()
    with turn(CPU, patience=5.0, clock=time.clock, sleep=time.sleep) as alone:
        assert not alone
    assert 5.0 <= time.now < 5.1
    with turn(Device("cpu", "Example", {}, {"host": "there"}), patience=0.0) as alone:
        assert alone  # another one
    with turn(Device("sim:v100", "Example", {}, {"host": "here"}), patience=0.0) as alone:
        assert alone


def test_the_turn_of_a_process_that_is_killed(holder: subprocess.Popen[str]) -> None:
    time = Time()

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if time.slept == 3:
            holder.kill()
            holder.wait()

    with turn(CPU, clock=time.clock, sleep=sleep) as alone:
        assert alone
    assert time.slept == 3


def test_whoever_waits_is_next(holder: subprocess.Popen[str]) -> None:
    """The holder's second turn would come before ours if there were no queue."""
    import fcntl

    queue, _ = lock_files(CPU)
    time = Time()

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        with queue.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
        holder.wait()

    with turn(CPU, clock=time.clock, sleep=sleep) as alone:
        assert alone
        with queue.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with turn(CPU, patience=0.0) as alone:
        assert alone


def test_files_are_nobody_elses_to_choose(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for path in lock_files(CPU):
        path.symlink_to(target)
    with turn(CPU, patience=0.0) as alone:
        assert alone
    assert not target.exists()


def test_a_board_is_the_same_whatever_number_it_has() -> None:
    # A process that is shown one GPU alone calls it 0, another one 1.
    boards = [
        Device("cuda", "H200", {}, {"host": "here", "index": i, "uuid": u}) for i, u in ((0, "a"), (1, "a"), (0, "b"))
    ]
    assert lock_files(boards[0]) == lock_files(boards[1]) != lock_files(boards[2])
    # Where NVML does not tell, the number is all that there is.
    unknown = [Device("cuda", "H200", {}, {"host": "here", "index": i, "uuid": ""}) for i in (0, 1)]
    assert lock_files(unknown[0]) != lock_files(unknown[1])
