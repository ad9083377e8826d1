"""A search that is killed or interrupted in the middle: nothing measured is lost, and nothing keeps running."""

from __future__ import annotations

import signal
import uuid
from pathlib import Path

import pytest
from command_line import Iosfarm, finish
from processes import MARK, eventually, marked

from iosfarm.db import LatencyDatabase
from iosfarm.farm.schedules.schedule_file import load

ZOO = "models:\n  - name: squeezenet\n    arguments: {image_size: 32}\n"
STAGES = 172  # of the search space; the refinement tries others
FIRST = 60  # measurements: the baselines' stages come first, so that by then there is a schedule
EXHAUSTIVE = ("--method", "exhaustive")
SEARCH = ("search", "--models", "zoo.yaml", "--device", "cpu", "--json", "--executor")
FILE = Path("schedules") / "squeezenet-cpu-b1-float32.json"


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def iosfarm(tmp_path: Path, mark: str) -> Iosfarm:
    """Its processes can be found."""
    command = Iosfarm(tmp_path, {MARK: mark})
    command.zoo(ZOO)
    return command


def states(iosfarm: Iosfarm) -> list[str]:
    with LatencyDatabase(str(iosfarm.database), readonly=True) as database:
        return [str(row.state) for row in reversed(database.searches())]


def check_the_rest_is_measured(iosfarm: Iosfarm, *method: str) -> None:
    """The same search again measures what was not recorded, and only that."""
    known = iosfarm.distinct()
    assert 0 < known < STAGES
    done = iosfarm(*SEARCH, "inline", *method)
    assert done.code == 0, done.err
    (result,) = done.document["results"]
    counts = result["counts"]
    assert counts["stages"] >= STAGES
    assert counts["found"] == known
    assert counts["measured"] == iosfarm.distinct() - known
    assert not result["interrupted"]
    assert result["certificate"]["gap"] < 0.5  # on a busy machine noise leaves more than was asked for
    if method == EXHAUSTIVE:
        assert iosfarm.distinct() == counts["stages"]
        assert result["certificate"]["kind"] == "exhaustive"


def test_killed_half_way_with_ray(iosfarm: Iosfarm, mark: str) -> None:
    process = iosfarm.start(*SEARCH, "ray", *EXHAUSTIVE)
    iosfarm.until_recorded(STAGES // 3, process)
    assert any("raylet" in command for command in marked(mark).values())
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    # Ray's own agent looks for its dead parent now and then, and is the last to go.
    assert eventually(lambda: not marked(mark), seconds=200), marked(mark)
    assert states(iosfarm) == ["running"]
    assert not (iosfarm.folder / FILE).exists()
    check_the_rest_is_measured(iosfarm, *EXHAUSTIVE)


@pytest.mark.parametrize(
    ("executor", "number", "method"), [("inline", signal.SIGINT, ()), ("ray", signal.SIGTERM, EXHAUSTIVE)]
)
def test_interrupted_once(
    iosfarm: Iosfarm, mark: str, executor: str, number: signal.Signals, method: tuple[str, ...]
) -> None:
    process = iosfarm.start(*SEARCH, executor, *method)
    iosfarm.until_recorded(FIRST, process)
    process.send_signal(number)
    done = finish(process)
    assert done.code == 128 + number, done.err
    assert "stopping after the stages under way" in done.err
    assert done.err.endswith("the same command goes on from there\n")
    assert "Traceback" not in done.err
    assert eventually(lambda: not marked(mark)), marked(mark)

    assert done.document["interrupted"]
    (result,) = done.document["results"]
    assert result["interrupted"]
    assert result["certificate"]["kind"] == "structural"
    assert result["counts"]["measured"] == iosfarm.distinct()
    content, _ = load(iosfarm.folder / FILE)
    assert content.interrupted
    assert content.counts.measured == iosfarm.distinct()
    assert iosfarm("show", str(FILE)).code == 0
    assert states(iosfarm) == ["interrupted"]
    check_the_rest_is_measured(iosfarm, *method)


def test_interrupted_twice(iosfarm: Iosfarm, mark: str) -> None:
    process = iosfarm.start(*SEARCH, "inline")
    iosfarm.until_recorded(16, process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130
    assert done.out == ""
    assert done.err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in done.err
    assert eventually(lambda: not marked(mark)), marked(mark)
    assert states(iosfarm) == ["interrupted"]
    check_the_rest_is_measured(iosfarm)


def test_interrupted_before_there_is_a_schedule(iosfarm: Iosfarm) -> None:
    process = iosfarm.start(*SEARCH, "inline")
    iosfarm.until_recorded(1, process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130
    assert done.document == {"interrupted": True, "results": []}
    assert not (iosfarm.folder / FILE).exists()
    assert states(iosfarm) == ["interrupted"]
    assert 0 < iosfarm.distinct() < STAGES // 2
