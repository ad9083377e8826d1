"""What users get wrong, and what their machines do to them: one clear line each, and the right exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from command_line import SEARCH, SIM, Iosfarm

import iosfarm as library

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
