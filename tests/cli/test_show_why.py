"""`iosfarm show --why`: what a user sees of the alternatives to a stage. On a simulated device, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from iosfarm.cli import main

ZOO = "models:\n  - name: squeezenet\n"
FILE = "schedules/squeezenet-sim-v100-b1-float32.json"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a schedule and the database that it was searched with."""
    folder = tmp_path_factory.mktemp("why")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "zoo.yaml").write_text(ZOO)
        fixed = ["--models", "zoo.yaml", "--device", "sim:v100", "--executor", "inline", "--db", "latency.db"]
        assert main.run(["search", *fixed]) == 0
    return folder


@pytest.fixture
def show(searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `iosfarm show`, in that folder: exit code, stdout, stderr."""
    monkeypatch.chdir(searched)
    monkeypatch.setenv("IOSFARM_DB", str(searched / "latency.db"))

    def run(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run(["show", *options])
        return code, *capsys.readouterr()

    return run


def several(searched: Path) -> int:
    """A stage of several groups within its part."""
    content = json.loads((searched / FILE).read_text())
    inside = [n for n, stage in enumerate(content["stages"]) if len(stage["groups"]) > 1 and stage["part"] > 0]
    return inside[0]


def test_as_text(show: Command, searched: Path) -> None:
    number = several(searched)
    code, out, err = show(FILE, "--why", str(number))
    assert (code, err) == (0, "")
    head, second, *lines = out.splitlines()
    assert head.startswith("squeezenet, batch 1, float32 on ")
    assert "simulated" in head
    stage = json.loads((searched / FILE).read_text())["stages"][number]
    assert second.startswith(f"stage {number} of part {stage['part']}: {stage['predicted'] * 1e3:.4f} ms (")
    assert any("could run here" in line for line in lines)
    assert any("slower by" in line or "cannot win" in line for line in lines)
    assert "simpler:" in lines
    assert "every unit alone" in out
    for name in (name for group in stage["groups"] for name in group):
        assert name in out


def test_as_json(show: Command, searched: Path) -> None:
    number = several(searched)
    code, out, _ = show(FILE, "--why", str(number), "--most", "3", "--json", "--db", "latency.db")
    assert code == 0
    found = json.loads(out)
    content = json.loads((searched / FILE).read_text())
    stage = content["stages"][number]
    assert found["device"]["simulated"]
    assert (found["stage"], found["part"]) == (number, stage["part"])
    assert found["chosen"]["measured"] == pytest.approx(stage["predicted"], rel=1e-12)
    assert found["chosen"]["samples"] > 0
    total = sum(s["predicted"] for s in content["stages"] if s["part"] == stage["part"])
    assert found["chosen"]["part"]["measured"] == pytest.approx(total)
    assert len(found["alternatives"]) == min(3, found["others"])
    for row in found["alternatives"]:
        assert row["why"]
        assert (row["measured"] is None) == (row["samples"] is None)
        assert row["part"]["measured"] is None or row["part"]["measured"] >= total * (1 - 1e-9)
        assert {unit for s in row["stages"] for group in s["groups"] for unit in group} <= units(content)


def units(content: dict[str, list[dict[str, list[list[str]]]]]) -> set[str]:
    return {name for stage in content["stages"] for group in stage["groups"] for name in group}


def test_a_database_that_knows_nothing(show: Command, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    assert main.run(["db", "migrate", "--db", str(empty)]) == 0
    code, out, _ = show(FILE, "--why", "0", "--db", str(empty))
    assert code == 0
    (note,) = (line for line in out.splitlines() if "holds no latencies" in line)
    assert note.startswith(f"note: {empty}")
    assert "--db" in note


def test_a_file_from_elsewhere(show: Command, searched: Path, tmp_path: Path) -> None:
    """Of a device that this machine does not have: nothing is opened but the database."""
    content = json.loads((searched / FILE).read_text())
    content["device"] |= {"spec": "cuda:7", "kind": "cuda", "model": "Some GPU", "simulated": False}
    (tmp_path / "else.json").write_text(json.dumps(content))
    code, out, _ = show(str(tmp_path / "else.json"), "--why", "0")
    assert code == 0
    assert "holds no latencies of this network's stages on Some GPU" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--why", "999"], "there is no stage 999; stages are 0 to"),
        (["--why", "-1"], "there is no stage -1; stages are 0 to"),
        (["--why", "0", "--part", "1"], "--why is about one stage"),
        (["--why", "0", "--svg", "a.svg"], "--why is about one stage"),
        (["--most", "3"], "--db and --most go with --why"),
        (["--why", "some"], "Invalid value for '--why'"),
    ],
)
def test_mistakes_are_one_line(show: Command, options: list[str], message: str) -> None:
    code, out, err = show(FILE, *options)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_there_is_no_such_database(show: Command) -> None:
    code, out, err = show(FILE, "--why", "0", "--db", "missing.db")
    assert code == 1
    assert out == ""
    assert "there is no latency database here" in err
