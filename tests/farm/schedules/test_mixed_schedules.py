"""A schedule with a mixed stage: read from a file, shown, drawn, and remembered by the database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from farm_examples import drive, job
from typer.testing import CliRunner

from iosfarm.cli.main import app
from iosfarm.db import LatencyDatabase
from iosfarm.farm.schedules.drawing import draw_svg
from iosfarm.farm.schedules.schedule_file import document, load, save
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Measurement, Status

MIXED = {"strategy": "mixed", "groups": [["a", "b"], ["pool"]]}
REST = [{"strategy": "concurrent", "groups": [[name]]} for name in ("c", "join", "last")]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schedule file of a search."""
    folder = tmp_path_factory.mktemp("mixed")
    with LatencyDatabase(str(folder / "latency.db")) as database:
        (result,) = drive([job(device="sim:v100?noise=0")], database)
    save(document(result), folder / "schedule.json")
    return folder / "schedule.json"


@pytest.fixture
def write(original: Path, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Puts other stages into a schedule file; all take 1 ms."""

    def edited(stages: list[dict[str, Any]]) -> Path:
        content = json.loads(original.read_text())
        content["stages"] = [{"part": 0, "key": "", "predicted": 1e-3, **stage} for stage in stages]
        (tmp_path / "mixed.json").write_text(json.dumps(content))
        return tmp_path / "mixed.json"

    return edited


def test_shown(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    path = write([MIXED, *REST])
    done = CliRunner().invoke(app, ["show", str(path)])
    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.output.splitlines()]
    assert "┌ a (conv2d) + b (conv2d), merged into one convolution" in lines
    assert "└ pool (max_pool)" in lines
    assert done.output.count("merged into one") == 1


def test_drawn(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    content, graph = load(write([MIXED, *REST]))
    titles = re.findall("<title>(.*?)</title>", draw_svg(content, graph))
    assert [title for title in titles if title.endswith(", merged")] == ["a: conv2d, merged", "b: conv2d, merged"]
    assert draw_svg(content, graph).count("stroke-dasharray") == 2


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ([["a", "b"]], "stage 0: a mixed stage has two or more groups"),
        ([["a"], ["b"], ["pool"]], "stage 0: no group of this mixed stage can be merged"),
        ([["a", "b", "c"], ["pool"]], "stage 0: no group of this mixed stage can be merged"),
    ],
)
def test_refused(write: Callable[[list[dict[str, Any]]], Path], groups: list[list[str]], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        load(write([{"strategy": "mixed", "groups": groups}, *REST]))


def test_remembered(write: Callable[[list[dict[str, Any]]], Path], tmp_path: Path) -> None:
    content, graph = load(write([MIXED, *REST]))
    stage = content.schedule().place(graph, content.layout)[0].stage
    device, environment = Device("sim:v100", "Tesla V100", {}), Environment({"runtime": "sim"}, {})
    with LatencyDatabase(str(tmp_path / "latency.db")) as database:
        database.record([(stage.summary, Measurement(stage.key, Status.OK, (1e-3,)))], device, environment)
        (row,) = database.query(strategy="mixed")
    assert row.stage_key == stage.key


def test_a_search_has_no_mixed_strategy() -> None:
    from iosfarm.search.space import SpaceSettings

    with pytest.raises(UsageError, match="use some of concurrent, merge"):
        SpaceSettings(strategies=("concurrent", "mixed"))
