"""`iosfarm db verify` and `coverage`: commands that need a device, here a simulated one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iosfarm.cli.db import app
from iosfarm.db import LatencyDatabase
from iosfarm.farm.executors.executor import MeasureTask
from iosfarm.farm.executors.inline_executor import InlineExecutor
from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.ir.stage import Stage
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut
from iosfarm.zoo import load

DEVICE = "sim:v100"


def record(path: Path, factor: float, count: int = 12) -> list[Stage]:
    """The single units of SqueezeNet as the simulated device measures them, times a factor. Returns all of them."""
    executor = InlineExecutor()
    (info,) = executor.open(DEVICE)
    graph = load("squeezenet")
    placed = sequential(graph, cut(graph), info.layout).place(graph, info.layout)
    stages = list({item.key: item.stage for item in placed}.values())
    executor.submit(info.name, MeasureTask(tuple(s.canonical for s in stages[:count])))
    (outcome,) = executor.wait(1)
    executor.close()
    with LatencyDatabase(str(path)) as database:
        changed = [replace(m, samples=tuple(s * factor for s in m.samples)) for m in outcome.measurements]
        items = [(s.summary, m) for s, m in zip(stages, changed, strict=False)]
        database.record(items, info.device, info.environment)
    return stages


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, IosfarmError):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (0.8, 1), (1.25, 1)])
def test_verify_tells_drift(tmp_path: Path, factor: float, code: int) -> None:
    path = tmp_path / "latency.db"
    record(path, factor)
    found, out = run("verify", "--db", str(path), "--device", DEVICE, "--sample", "10", "--json")
    document = json.loads(out)
    assert found == code
    assert document["within"] == (code == 0)
    assert document["drift"] == pytest.approx(1 / factor - 1, abs=0.03)
    assert (len(document["stages"]), document["failed"], document["simulated"]) == (10, 0, True)
    assert sum(item["drifted"] for item in document["stages"]) == (0 if code == 0 else 10)
    with LatencyDatabase(str(path), readonly=True) as database:
        assert database.stats().measurements == 12 + 10  # what was measured now is recorded


def test_verify_as_text(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    record(path, 0.5)
    code, out = run("verify", "--db", str(path), "--device", DEVICE, "--sample", "3")
    assert code == 1
    assert "3 of 3 stages have drifted" in out
    assert "the median one takes 100" in out
    assert "longer" in out


def test_verify_without_anything_to_verify(tmp_path: Path) -> None:
    path = str(tmp_path / "latency.db")
    LatencyDatabase(path).close()
    with pytest.raises(IosfarmError, match=r"nothing was measured on .* in this environment; `iosfarm db stats` lists"):
        run("verify", "--db", path, "--device", DEVICE)
    with pytest.raises(UsageError):
        run("verify", "--db", path, "--device", "tpu")


def test_coverage(tmp_path: Path) -> None:
    path, zoo = tmp_path / "latency.db", tmp_path / "zoo.yaml"
    zoo.write_text("defaults:\n  devices: [cpu]\nmodels:\n  - name: squeezenet\n")
    record(path, 1.0)
    arguments = ("coverage", "--models", str(zoo), "--db", str(path), "--json")
    (row,) = json.loads(run(*arguments, "--device", DEVICE)[1])["coverage"]
    assert (row["model"], row["simulated"], row["measured"]) == ("squeezenet", True, 12)
    assert row["missing"] == row["stages"] - 12 > 0
    assert row["forecast"]["expected"] > 0
    # A device that is not here, by the name it has in the database.
    with LatencyDatabase(str(path), readonly=True) as database:
        model = database.stats().devices[0].model
    (same,) = json.loads(run(*arguments, "--device", model)[1])["coverage"]
    assert same == row
    with pytest.raises(UsageError, match=r"tpu: neither a device of this machine .* nor one in the database"):
        run(*arguments, "--device", "tpu")
    with pytest.raises(UsageError, match="--confidence 2"):
        run(*arguments, "--device", DEVICE, "--confidence", "2")
    _, table = run("coverage", "--models", str(zoo), "--db", str(path), "--device", DEVICE)
    assert "(simulated)" in table


def test_a_search_finds_what_the_overlay_holds(tmp_path: Path) -> None:
    from iosfarm.cli.main import run as main

    zoo, system, own = (str(tmp_path / name) for name in ("zoo.yaml", "system.db", "own.db"))
    Path(zoo).write_text(f"defaults:\n  devices: [{DEVICE}]\nmodels:\n  - name: squeezenet\n")
    arguments = ["search", "--models", zoo, "--executor", "inline", "--out", str(tmp_path), "--budget", "60 stages"]
    assert main([*arguments, "--db", system]) == 0
    with LatencyDatabase(system, readonly=True) as database:
        before = database.stats().measurements
    assert main([*arguments, "--budget", "0", "--db", own, "--db-overlay", system]) == 0
    with LatencyDatabase(own, readonly=True) as database:
        assert database.stats().measurements == 0
        (schedule,) = database.schedules()
        assert {stage.measurement_id for stage in schedule.stages} == {None}  # those of another database
    with LatencyDatabase(system, readonly=True) as database:
        assert (database.stats().measurements, len(database.searches())) == (before, 1)
