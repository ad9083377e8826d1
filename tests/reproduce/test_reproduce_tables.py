"""Tables 1 and 2, the trend and the bound: what is counted, beside the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iosfarm.cli import main
from iosfarm.reproduce import counting, paper, tables
from iosfarm.reproduce.paper import TABLE_1, TABLE_2, SpaceSize
from iosfarm.reproduce.result import Draft
from iosfarm.reproduce.tables import SpaceRow, UnitsRow, transition_bound
from iosfarm.search.parts import cut
from iosfarm.zoo import load

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"the reference figures and RandWire's edge lists are not at {REFERENCE}"
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where `reproduced` goes
    monkeypatch.setenv("COLUMNS", "200")


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main.run(["reproduce", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_table_1_with_our_own_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    answer = document(capsys, "table1")
    assert (answer["figure"], answer["source"], answer["device"]) == ("table1", paper.SOURCE, None)
    rows = {row["network"]: row for row in answer["rows"]}
    assert list(rows) == list(TABLE_1)
    assert {name for name, row in rows.items() if row["match"]} == {"inception_v3", "nasnet_large", "squeezenet"}
    ours = {key: rows["inception_v3"][key] for key in ("units", "width", "bound", "transitions", "schedules")}
    assert ours == {
        "units": 11, "width": 6, "bound": pytest.approx(25640, rel=1e-3), "transitions": 4871, "schedules": 3757392,
    }  # fmt: skip
    assert rows["randwire"]["paper_transitions"] == 1_170_663
    assert answer["notes"] == [f"randwire: {tables.OWN_WIRING}", f"nasnet_large: {tables.IOS_WIRING}"]


@needs_reference
def test_table_1_with_the_paper_s_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    answer = document(capsys, "table1", "--randwire-graphs", str(REFERENCE / "randwire"))
    assert all(row["match"] for row in answer["rows"])
    row = next(row for row in answer["rows"] if row["network"] == "randwire")
    assert (row["units"], row["width"], row["transitions"]) == (33, 8, 1_170_663)
    assert tables.OWN_WIRING not in " ".join(answer["notes"])


def test_a_row_that_does_not_match_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "table2", lambda: [UnitsRow("squeezenet", 50, 51)])
    assert main.run(["reproduce", "table2"]) == 0
    assert "squeezenet      50            51   no" in capsys.readouterr().out


def test_table_2(capsys: pytest.CaptureFixture[str]) -> None:
    rows = document(capsys, "table2")["rows"]
    assert {row["network"]: (row["units"], row["paper_units"], row["match"]) for row in rows} == {
        name: (units, units, True) for name, units in TABLE_2.items()
    }


@pytest.mark.parametrize("files", [0, 3])
def test_edge_lists_that_are_not_four(capsys: pytest.CaptureFixture[str], tmp_path: Path, files: int) -> None:
    graphs = tmp_path / "graphs"
    graphs.mkdir()
    for number in range(files):
        (graphs / f"{number}.txt").write_text("2\n1\n0 1\n")
    assert main.run(["reproduce", "table1", "--randwire-graphs", str(graphs)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"error: randwire: {files} edge lists")


def test_no_such_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.run(["reproduce", "table1", "--randwire-graphs", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"units": 10}, {"width": 5}, {"bound": 2.7e4}, {"transitions": 4870}, {"schedules": 3.758e6}]
)
def test_match_means_every_figure(change: dict[str, Any]) -> None:
    ours = SpaceSize(11, 6, 25640.0, 4871, 3757440.0)
    assert SpaceRow("inception_v3", ours, TABLE_1["inception_v3"]).match
    theirs = SpaceSize(**{**vars(TABLE_1["inception_v3"]), **change})
    assert not SpaceRow("inception_v3", ours, theirs).match


def test_bound() -> None:
    assert transition_bound(6, 3) == 6**3  # (4 * 3 / 2)^3


def test_chains_reach_the_bound() -> None:
    draft = Draft(counting.COMPLEXITY_COLUMNS)
    counting.complexity(draft)
    assert len(draft.rows) == len(counting.CHAINS)
    assert all(row["tight"] for row in draft.rows)
    # By hand: two chains of two have 3^2 states, and C(4, 2)^2 pairs of a state and a later one or itself.
    two = next(row for row in draft.rows if (row["chains"], row["length"]) == (2, 2))
    assert (two["states"], two["transitions"]) == (9, 36 - 9)


def test_parts_are_no_larger_than_asked_for() -> None:
    draft = Draft(counting.PART_SIZES_COLUMNS)
    counting.part_sizes(draft)
    for row in draft.rows:
        size, parts = row["size"], row["parts"]
        assert isinstance(size, int)
        assert isinstance(parts, int)
        assert parts >= 321 / size  # 320 units and the sum of the last ones
        assert row["largest"] <= row["transitions"]  # type: ignore[operator]
        assert row["states"] <= row["transitions"]  # type: ignore[operator]
    assert [row["parts"] for row in draft.rows] == sorted((row["parts"] for row in draft.rows), reverse=True)  # type: ignore[type-var]


def test_convolutions_shrink_while_peaks_rise() -> None:
    draft = Draft(counting.TREND_COLUMNS)
    counting.trend(draft)
    rows = {row["name"]: row for row in draft.rows}
    # VGG-16 by hand (Simonyan and Zisserman): 15.3 G multiply-adds in 13 convolutions.
    assert rows["vgg16"]["convolutions"] == 13
    assert rows["vgg16"]["mean_mflop"] == pytest.approx(2 * 15.35e3 / 13, rel=0.01)
    assert [row["year"] for row in draft.rows] == sorted(row["year"] for row in draft.rows)  # type: ignore[type-var]
    peaks = [row["peak_tflops"] for row in draft.rows if row["peak_tflops"] is not None]
    assert peaks == sorted(peaks)  # type: ignore[type-var]


def test_nasnet_as_published_is_another_network(capsys: pytest.CaptureFixture[str]) -> None:
    answer = document(capsys, "table1")
    row = next(row for row in answer["rows"] if row["network"] == "nasnet_large")
    assert any("ios" in note for note in answer["notes"])
    assert tables.largest_block(cut(load("nasnet_large"))).transitions < row["transitions"]


@pytest.mark.parametrize("command", ["table1", "table2"])
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main.run(["reproduce", command, "--help"]) == 0
    assert f"Example: iosfarm reproduce {command}" in capsys.readouterr().out
