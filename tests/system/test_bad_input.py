"""What users get wrong, and what their machines do to them: one clear line each, and the right exit code."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import Iosfarm, finish, until_said

import iosfarm as library

SEARCH = ("search", "--models", "zoo.yaml", "--executor", "inline")
SIM = (*SEARCH, "--device", "sim:v100")


# -- the zoo -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["zoo.yaml", "No such file"]),
        ("", ["zoo.yaml"]),
        ("models: [", ["zoo.yaml:1"]),
        ("just text", ["zoo.yaml:1"]),
        ("models: []", ["zoo.yaml:1", "models"]),
        ("models:\n  - name: squeeznet", ["zoo.yaml:2", "unknown model 'squeeznet'", "squeezenet"]),
        ("models:\n  - name: sample\n    dtypes: [float12]", ["zoo.yaml:3", "float12", "float32"]),
        ("models:\n  - name: sample\n    devices: [tpu]", ["zoo.yaml:3", "tpu", "cpu"]),
        ("models:\n  - name: sample\n    batch_sizes: [0]", ["zoo.yaml:3", "at least 1"]),
        ("models:\n  - name: sample\n    max_group_size: 0", ["zoo.yaml:3", "max_group_size", "at least 1"]),
        ("models:\n  - name: sample\n    max_groups: 0", ["zoo.yaml:3", "max_groups", "at least 1"]),
        ("models:\n  - name: sample\n    budget: soon", ["zoo.yaml:3", "budget"]),
        ("models:\n  - name: sample\n    colour: red", ["zoo.yaml:3", "colour"]),
        ("models:\n  - name: sample\n    arguments: {size: 3}", ["zoo.yaml:3", "size"]),
        ("models:\n  - graph: missing.json", ["zoo.yaml:2", "missing.json"]),
        ("models:\n  - name: sample\n  - name: sample", ["zoo.yaml:3", "sample", "label"]),
    ],
)
def test_a_zoo_with_a_mistake(iosfarm: Iosfarm, text: str | None, parts: list[str]) -> None:
    if text is not None:
        iosfarm.zoo(text)
    done = iosfarm(*SIM)
    assert done.code == 2
    assert done.out == ""
    assert [part for part in parts if part not in done.error] == []
    assert not iosfarm.database.exists()


def test_all_mistakes_of_a_zoo_at_once(iosfarm: Iosfarm) -> None:
    iosfarm.zoo("models:\n  - name: squeeznet\n    batch_sizes: [0]\n    dtypes: [float12]\n")
    done = iosfarm(*SIM)
    assert done.code == 2
    lines = done.err.splitlines()
    assert lines[0] == "error: zoo.yaml: 3 mistakes"
    assert [line.partition(": ")[0] for line in lines[1:]] == ["  line 2", "  line 3", "  line 4"]


# -- graphs --------------------------------------------------------------------------------------------------------


def _cycle(graph: dict[str, Any]) -> None:
    graph["operators"][0]["inputs"] = [graph["operators"][1]["name"]]


def _wrong_shape(graph: dict[str, Any]) -> None:
    graph["operators"][1]["attributes"]["groups"] = 7


def _no_output(graph: dict[str, Any]) -> None:
    graph["outputs"] = []


def _unknown_operator(graph: dict[str, Any]) -> None:
    graph["operators"][2]["kind"] = "conv2f"


def _unknown_input(graph: dict[str, Any]) -> None:
    graph["operators"][2]["inputs"] = ["nobody"]


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (_cycle, ["cycle"]),
        (_wrong_shape, ["groups"]),
        (_no_output, ["output"]),
        (_unknown_operator, ["conv2f", "conv2d"]),
        (_unknown_input, ["nobody"]),
        (lambda graph: graph.clear(), ["graph.json"]),
    ],
)
def test_a_graph_that_cannot_be(iosfarm: Iosfarm, spoil: Callable[[Any], None], parts: list[str]) -> None:
    graph = library.load("sample").to_json()
    spoil(graph)
    (iosfarm.folder / "graph.json").write_text(json.dumps(graph))
    iosfarm.zoo("models:\n  - graph: graph.json\n")
    done = iosfarm(*SIM)
    assert done.code == 2
    assert [part for part in ["graph.json", *parts] if part not in done.error] == []


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--device", "tpu"], ["unknown device 'tpu'", "cpu"]),
        (["--device", "sim:v1000"], ["sim:v1000", "sim:v100"]),
        (["--device", "cuda"], ["cuda", "CUDA"]),
        (["--device", "sim:v100", "--max-group-size", "0"], ["max_group_size is 0", "at least 1"]),
        (["--device", "sim:v100", "-s", "0"], ["max_groups is 0", "at least 1"]),
        (["--device", "sim:v100", "-r", "few"], ["--max-group-size", "valid integer"]),
        (["--device", "sim:v100", "--budget", "soon"], ["--budget soon", "10m"]),
        (["--device", "sim:v100", "--budget", "-3s"], ["--budget -3s", "10m"]),
        (["--device", "sim:v100", "--budget", "few stages"], ["--budget few stages", "500 stages"]),
        (["--device", "sim:v100", "--method", "magic"], ["unknown method 'magic'", "certified, exhaustive"]),
        (["--device", "sim:v100", "--out", ""], ["an empty --out"]),
        (["--device", "sim:v100", "--executor", "slurm"], ["unknown executor 'slurm'", "ray, process, inline"]),
        (["--device", "sim:v100", "--frobnicate"], ["--frobnicate", "iosfarm search --help"]),
        (["--device", "sim:v100", "--db", "mysql://me:secret@host/db"], ["mysql"]),
        (["--device", "sim:v100", "--db", "missing/latency.db"], ["missing"]),
    ],
)
def test_options_that_cannot_be(iosfarm: Iosfarm, options: list[str], parts: list[str]) -> None:
    iosfarm.zoo()
    done = iosfarm(*SEARCH, *options)
    assert done.code == (1 if options[-1] == "missing/latency.db" else 2)
    assert done.out == ""
    assert [part for part in parts if part not in done.error] == []
    assert "secret" not in done.err
    assert iosfarm.recorded() == 0


def test_an_unknown_device_through_ray(iosfarm: Iosfarm) -> None:
    iosfarm.zoo()
    done = iosfarm(*SEARCH, "--executor", "ray", "--device", "cuda")
    assert done.code == 2
    assert "CUDA" in done.error


@pytest.mark.parametrize("arguments", [["frobnicate"], ["search"], ["show"], ["run", "a.json", "--rounds", "0"]])
def test_commands_that_cannot_be(iosfarm: Iosfarm, arguments: list[str]) -> None:
    done = iosfarm(*arguments)
    assert done.code == 2
    assert "--help" in done.error


# -- schedule files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schedule(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a schedule file."""
    command = Iosfarm(tmp_path_factory.mktemp("schedule"))
    command.zoo()
    assert command(*SIM).code == 0
    return (command.folder / "schedules" / "sample-sim-v100-b1-float32.json").read_text()


@pytest.mark.parametrize("command", ["show", "run"])
@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "", "not JSON"),
        (lambda text: text.replace('"graph_hash":', '"graph_hash": "0", "was":'), "was: Extra inputs"),
        (lambda text: json.dumps(json.loads(text) | {"graph_hash": "0" * 64}), "made for another graph"),
        (lambda text: json.dumps(json.loads(text) | {"version": 99}), "schedule file version 99"),
        (lambda text: json.dumps(json.loads(text) | {"stages": json.loads(text)["stages"][:-1]}), "is in no stage"),
    ],
)
def test_schedule_files_that_do_not_fit(
    iosfarm: Iosfarm, schedule: str, command: str, spoil: Callable[[str], str], part: str
) -> None:
    (iosfarm.folder / "s.json").write_text(spoil(schedule))
    done = iosfarm(command, "s.json")
    assert done.code == 2
    assert done.error.startswith("s.json: ")
    assert part in done.error


def test_weights_and_devices_that_do_not_fit_a_run(iosfarm: Iosfarm, schedule: str) -> None:
    (iosfarm.folder / "s.json").write_text(schedule)
    for options in (["--weights", "missing.safetensors"], ["--device", "tpu"], ["--device", "cuda"]):
        done = iosfarm("run", "s.json", *options)
        assert done.code == 2
        assert options[-1].partition(".")[0] in done.error


# -- databases -----------------------------------------------------------------------------------------------------


@pytest.fixture
def known(iosfarm: Iosfarm) -> int:
    """Stages in the database after a first, small search."""
    iosfarm.zoo()
    assert iosfarm(*SIM, "-r", "1").code == 0
    return iosfarm.distinct()


def test_a_locked_database(iosfarm: Iosfarm, known: int) -> None:
    with closing(sqlite3.connect(iosfarm.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = iosfarm(*SIM)
    assert done.code == 1
    assert "latency.db: another process holds the database; wait" in done.error
    assert iosfarm.distinct() == known


def test_a_newer_database(iosfarm: Iosfarm, known: int) -> None:
    with closing(sqlite3.connect(iosfarm.database)) as connection:
        connection.execute("UPDATE iosfarm_version SET version_num = '9999'")
        connection.commit()
    done = iosfarm(*SIM)
    assert done.code == 1
    assert "made by a newer iosfarm" in done.error
    assert "upgrade iosfarm" in done.error
    assert iosfarm.distinct() == known


def test_not_a_database(iosfarm: Iosfarm) -> None:
    iosfarm.zoo()
    iosfarm.database.write_text("not a database, but a text that is longer than any header of one\n" * 40)
    before = iosfarm.database.read_bytes()
    done = iosfarm(*SIM)
    assert done.code == 1
    assert "latency.db: the file is not a database" in done.error
    assert iosfarm.database.read_bytes() == before


def _mount(folder: Path, *options: str) -> None:
    """A file system of one's own, or a skip."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount on; given back at the end."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    folder = tmp_path / "mounted"
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def test_a_read_only_database(iosfarm: Iosfarm, known: int, mounted: Path) -> None:
    if os.geteuid() == 0:  # for whom no file is read-only, unless its file system is
        _mount(mounted)
        shutil.copy(iosfarm.database, mounted / "latency.db")
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    else:
        mounted.mkdir()
        shutil.copy(iosfarm.database, mounted / "latency.db")
        (mounted / "latency.db").chmod(0o444)
        mounted.chmod(0o555)
    done = iosfarm(*SIM, "--db", str(mounted / "latency.db"))
    assert done.code == 1
    assert "read-only" in done.error or "not writable" in done.error
    assert "--db" in done.error


# -- places to write -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["zoo.yaml", "zoo.yaml/below", "/proc/schedules"])
def test_an_output_folder_that_cannot_be_written(iosfarm: Iosfarm, out: str) -> None:
    iosfarm.zoo()
    done = iosfarm(*SIM, "--out", out)
    assert done.code == 1
    assert done.error.startswith(f"{out}: cannot write here: ")
    assert done.error.endswith("; choose another folder with --out")
    assert not iosfarm.database.exists()


def test_no_space_for_the_schedule(iosfarm: Iosfarm, mounted: Path) -> None:
    iosfarm.zoo()
    _mount(mounted, "-o", "size=4k")
    done = iosfarm(*SIM, "--out", str(mounted))
    assert done.code == 1
    assert "cannot write the schedule: No space left on device; what was measured is in the database" in done.error
    assert list(mounted.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=10m", str(mounted)], check=True)
    again = iosfarm(*SIM, "--out", str(mounted), "--json")
    assert again.code == 0
    assert again.document["results"][0]["counts"]["measured"] == 0


def test_no_space_for_the_database(iosfarm: Iosfarm, mounted: Path) -> None:
    iosfarm.zoo("models:\n  - name: squeezenet\n")
    _mount(mounted, "-o", "size=1m")
    iosfarm.database = mounted / "latency.db"
    (mounted / "zoo.yaml").write_text("models:\n  - name: sample\n")
    assert iosfarm(*SIM, "--models", str(mounted / "zoo.yaml"), "--db", str(iosfarm.database)).code == 0
    known = iosfarm.distinct()
    (mounted / "filler").write_bytes(b"\0" * (shutil.disk_usage(mounted).free - 70_000))
    # With all stages wanted at once, the first ones that come in are too many for what is left.
    process = iosfarm.start(*SIM, "--db", str(iosfarm.database), "--method", "exhaustive")
    until_said("the disk is full; free some space", process)
    assert iosfarm.distinct() == known
    subprocess.run(["mount", "-o", "remount,size=20m", str(mounted)], check=True)
    assert finish(process).code == 0
    assert iosfarm.distinct() > known


def test_files_that_may_not_grow(iosfarm: Iosfarm, known: int) -> None:
    # As with a quota; this one needs no file system of its own.
    def limit() -> None:
        size = iosfarm.database.stat().st_size + 4096
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    iosfarm.zoo("models:\n  - name: squeezenet\n")
    process = iosfarm.start(*SIM, preexec=limit)
    until_said("waiting for the database", process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 1
    assert "latency.db" in done.error
    assert iosfarm.distinct() >= known
    assert iosfarm(*SIM).code == 0
