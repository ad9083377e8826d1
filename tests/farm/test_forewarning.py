"""Networks with little to win: said before anything is measured, and not searched without end."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import iosfarm
from iosfarm.cli.main import run
from iosfarm.farm.forewarning import ENOUGH, forewarned
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method


def chain() -> iosfarm.Graph:
    builder = iosfarm.GraphBuilder("chain")
    x = builder.input((3, 8, 8), name="x")
    for channels in (4, 5, 6):
        x = builder.conv2d(x, channels, kernel=3, padding=1)
    return builder.build(x)


def fork() -> iosfarm.Graph:
    builder = iosfarm.GraphBuilder("fork")
    x = builder.input((3, 8, 8), name="x")
    return builder.build(builder.concat(*(builder.conv2d(x, 4, kernel=3, padding=1) for _ in range(2))))


def test_they_get_a_limit_and_others_do_not() -> None:
    said: list[str] = []
    jobs = [Job("chain", chain(), "cpu"), Job("fork", fork(), "cpu"), Job("chain", chain(), "sim:v100")]
    limited = forewarned(jobs, said.append)
    assert [job.settings.budget.seconds for job in limited] == [3 * ENOUGH, None, 3 * ENOUGH]
    assert len(said) == 1
    assert said[0].startswith("chain: no unit of this network can run beside another one")
    assert f"searched for {ENOUGH:g} s at most" in said[0]


@pytest.mark.parametrize(
    "settings", [SearchSettings(budget=Budget(stages=7)), SearchSettings(method=Method("exhaustive"))]
)
def test_what_the_user_asks_for_stands(settings: SearchSettings) -> None:
    said: list[str] = []
    job = Job("chain", chain(), "cpu", settings)
    assert forewarned([job], said.append) == [job]
    assert said
    assert "at most" not in said[0]


def test_said_before_the_search(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By `iosfarm search` and `iosfarm run` on stderr, by `iosfarm.search` in the log."""
    import json

    monkeypatch.chdir(tmp_path)
    Path("chain.json").write_text(json.dumps(chain().to_json()))
    Path("zoo.yaml").write_text("models: [{graph: chain.json}]\n")
    search = ["search", "-m", "zoo.yaml", "-d", "sim:v100", "--executor", "inline", "--db", "l.db", "--json", "-o", "."]
    assert run(search) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("chain: no unit of this network can run beside another one")
    assert any(line.startswith("chain-sim-v100-b1-float32") for line in lines[1:])
    assert run(["run", "chain-sim-v100-b1-float32.json", "--device", "sim:v100", "--rounds", "1"]) == 0
    assert capsys.readouterr().err.startswith("chain: no unit of this network")
    with caplog.at_level(logging.WARNING, "iosfarm"):
        iosfarm.search(chain(), device="sim:v100", database="l.db")
    assert "chain: no unit of this network" in caplog.text
