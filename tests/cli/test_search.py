"""`iosfarm search`: what its options do, and what it says of the answer. On simulated devices, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iosfarm.cli import main
from iosfarm.db import LatencyDatabase

ZOO = "models:\n  - name: squeezenet\n"
STAGES = 172  # of the search space; the refinement tries others


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is: a zoo and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IOSFARM_DB", str(tmp_path / "latency.db"))
    monkeypatch.setenv("COLUMNS", "240")
    (tmp_path / "zoo.yaml").write_text(ZOO)
    return tmp_path


Search = Callable[..., tuple[int, str, str]]


@pytest.fixture
def search(folder: Path, capsys: pytest.CaptureFixture[str]) -> Search:
    """Runs `iosfarm search` on a simulated device: exit code, stdout, stderr."""

    def run(*options: str) -> tuple[int, str, str]:
        fixed = ["--models", "zoo.yaml", "--device", "sim:v100", "--executor", "inline"]
        code = main.run(["search", *fixed, *options])
        return code, *capsys.readouterr()

    return run


def result_of(out: str) -> dict[str, Any]:
    (result,) = json.loads(out)["results"]
    return dict(result)


def measured(folder: Path) -> int:
    """Distinct stages in the database."""
    with LatencyDatabase(str(folder / "latency.db"), readonly=True) as database:
        return len({row.stage_key for row in database.query(limit=10**6)})


def row_of(out: str) -> dict[str, str]:
    """The table's one row, by column."""
    head, _, row, *_ = out.splitlines()
    names = [name for name in head.split("  ") if name.strip()]
    values = [value for value in row.split("  ") if value.strip()]
    return dict(zip(map(str.strip, names), map(str.strip, values), strict=True))


def test_the_default_ends_within_its_gap_and_says_so(search: Search, folder: Path) -> None:
    code, out, _ = search()
    assert code == 0
    row = row_of(out)
    assert int(row["stages"]) >= STAGES
    assert 0 < int(row["measured"]) < int(row["stages"])
    assert int(row["measured"]) == measured(folder)
    gap, kind = row["gap"].split()
    assert float(gap.removesuffix("%")) <= 1
    assert kind in ("statistical", "structural")
    # And once more: all found, nothing measured, the same answer.
    code, again, _ = search()
    assert code == 0
    found = row_of(again)
    assert found["measured"] == "0"
    assert int(found["found"]) > STAGES / 2
    counts = {"stages", "found", "measured"}  # what the refinement tried in vain is not tried again
    assert {k: v for k, v in found.items() if k not in counts} == {k: v for k, v in row.items() if k not in counts}


def test_json_says_what_was_asked_for_and_what_was_found(search: Search) -> None:
    options = ["--gap", "0.2", "--certificate", "structural", "--confidence", "0.95", "--json"]
    code, out, _ = search(*options)
    assert code == 0
    result = result_of(out)
    settings, certificate = result["settings"], result["certificate"]
    assert (settings["method"], settings["gap"]) == ("certified", 0.2)
    assert (settings["certificate"], settings["confidence"]) == ("structural", 0.95)
    assert certificate["kind"] == "structural"
    assert certificate["confidence"] is None
    assert certificate["gap"] <= 0.2
    assert certificate["lower"] <= certificate["upper"] == pytest.approx(result["latencies"]["optimised"]["predicted"])
    assert certificate["assumptions"]
    assert result["counts"]["rounds"] > 0
    assert 0 <= result["regret"] < 0.01


def test_a_wider_gap_measures_less(search: Search, folder: Path) -> None:
    assert search("--gap", "0.5")[0] == 0
    few = measured(folder)
    assert search("--gap", "0")[0] == 0
    assert few < measured(folder)


def test_a_confidence(search: Search, folder: Path) -> None:
    (folder / "zoo.yaml").write_text("models:\n  - name: googlenet\n    confidence: 0.99\n")
    code, out, _ = search("--confidence", "0.9", "--gap", "0.05", "--json")
    assert code == 0
    certificate = result_of(out)["certificate"]
    assert (certificate["kind"], certificate["confidence"]) == ("statistical", 0.9)
    assert certificate["structural"] <= certificate["lower"]


def test_exhaustive_measures_all(search: Search, folder: Path) -> None:
    code, out, _ = search("--method", "exhaustive")
    assert code == 0
    row = row_of(out)
    assert row["gap"] == "0.0% exhaustive"
    assert row["measured"] == row["stages"] == str(measured(folder))
    assert measured(folder) >= STAGES


def test_a_budget_in_stages(search: Search, folder: Path) -> None:
    (folder / "zoo.yaml").write_text("models:\n  - name: sample\n")
    code, out, _ = search("--budget", "14 stages", "--gap", "0")
    assert code == 0
    assert row_of(out)["measured"] == "14" == str(measured(folder))
    assert "sample: the budget of 14 stages ended the search" in out.splitlines()
    gap = float(row_of(out)["gap"].split("%")[0])
    assert gap > 0
    # The next one goes on from there.
    code, out, _ = search("--budget", "1 stage", "--gap", "0", "--json")
    assert code == 0
    result = result_of(out)
    assert (result["counts"]["found"], result["counts"]["measured"]) == (14, 1)
    assert result["interrupted"]
    assert 100 * result["certificate"]["gap"] <= gap + 0.05


@pytest.mark.parametrize("budget", ["0", "0 stages"])
def test_a_budget_of_nothing(search: Search, folder: Path, budget: str) -> None:
    code, out, err = search("--budget", budget)
    assert (code, out) == (1, "")
    *_, line = err.splitlines()
    assert line.startswith("error: squeezenet-sim-v100-b1-float32: no schedule yet: the budget of 0 s")
    assert line.endswith("raise the budget; what was measured is kept")
    assert measured(folder) == 0
    assert search()[0] == 0
    known = measured(folder)
    code, out, _ = search("--budget", budget)
    assert code == 0
    assert int(row_of(out)["found"]) > STAGES / 2
    assert row_of(out)["measured"] == "0"
    assert "budget" not in out
    assert measured(folder) == known


def test_options_override_the_zoo(search: Search, folder: Path) -> None:
    (folder / "zoo.yaml").write_text(
        "models:\n  - name: sample\n    method: exhaustive\n    gap: 0.3\n    confidence: 0.9\n    budget: 14 stages\n"
    )
    code, out, _ = search("--json")
    assert code == 0
    settings = result_of(out)["settings"]
    assert (settings["method"], settings["gap"], settings["budget_stages"]) == ("exhaustive", None, 14)
    assert result_of(out)["interrupted"]
    code, out, _ = search("--method", "certified", "--budget", "1h", "--json")
    assert code == 0
    settings = result_of(out)["settings"]
    assert (settings["method"], settings["gap"], settings["confidence"]) == ("certified", 0.3, 0.9)
    assert (settings["budget"], settings["budget_stages"]) == (3600, None)
    assert result_of(out)["certificate"]["gap"] <= 0.3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--gap", "-0.1"], "a gap of -0.1; use 0 or more, such as 0.01"),
        (["--gap", "nan"], "a gap of nan; use 0 or more, such as 0.01"),
        (["--gap", "1%"], "Invalid value for '--gap'"),
        (["--certificate", "none"], "unknown certificate 'none'; use one of statistical, structural"),
        (["--confidence", "1"], "a confidence of 1.0; use 0.5 or more and less than 1, such as 0.99"),
        (["--confidence", "99"], "a confidence of 99.0; use 0.5 or more and less than 1, such as 0.99"),
        (["--method", "fast"], "unknown method 'fast'; use one of certified, exhaustive"),
        (["--budget", "few stages"], "--budget few stages: expected a time such as 10m, 300s or 1h30m, a number of"),
        (["--budget", "-1 stages"], "--budget -1 stages: expected a time such as 10m"),
        (["--budget", ""], "an empty --budget; leave it out, or give it a value"),
        (["--certificate", ""], "an empty --certificate; leave it out, or give it a value"),
    ],
)
def test_options_that_cannot_be(search: Search, folder: Path, options: list[str], line: str) -> None:
    code, out, err = search(*options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {line}")
    assert len(err.splitlines()) == 1
    assert not (folder / "latency.db").exists()
