"""`iosfarm reproduce`: the paper's tables, beside the paper's figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iosfarm.cli import main, reproduce
from iosfarm.reproduce import paper, tables
from iosfarm.reproduce.paper import TABLE_1, TABLE_2, SpaceSize
from iosfarm.reproduce.tables import SpaceRow, UnitsRow, transition_bound
from iosfarm.search.parts import cut
from iosfarm.zoo import load

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"the reference figures and RandWire's edge lists are not at {REFERENCE}"
)


@pytest.fixture(autouse=True)
def _mounted() -> Iterator[None]:
    """The group, also in a command line that does not have it."""
    before = list(main.app.registered_groups)
    if not any(group.name == "reproduce" for group in before):
        main.app.add_typer(reproduce.app, name="reproduce")
    yield
    main.app.registered_groups[:] = before


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main.run(["reproduce", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_table_1_with_our_own_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    answer = document(capsys, "table1")
    assert (answer["table"], answer["source"]) == (1, paper.SOURCE)
    rows = {row["network"]: row for row in answer["rows"]}
    assert list(rows) == list(TABLE_1)
    assert {name for name, row in rows.items() if row["match"]} == {"inception_v3", "nasnet_large", "squeezenet"}
    assert rows["inception_v3"]["ours"] == {
        "units": 11, "width": 6, "bound": pytest.approx(25640, rel=1e-3), "transitions": 4871, "schedules": 3757392,
    }  # fmt: skip
    assert rows["randwire"]["paper"]["transitions"] == 1_170_663
    assert "own generator" in rows["randwire"]["note"]
    assert not rows["inception_v3"]["note"]


def test_why_a_row_does_not_match_stands_under_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["reproduce", "table1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-2:] == [f"randwire: {tables.OWN_WIRING}", f"nasnet_large: {tables.IOS_WIRING}"]


@needs_reference
def test_table_1_with_the_paper_s_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["reproduce", "table1", "--randwire-graphs", str(REFERENCE / "randwire")]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert {name: rows[name][-1] for name in TABLE_1} == dict.fromkeys(TABLE_1, "yes")
    assert rows["randwire"][1:-1] == [
        "33", "33", "8", "8", "3.7e+09", "3.7e+09", "1170663", "1170663", "9.197e+22", "9.197e+22",
    ]  # fmt: skip
    assert err == ""
    assert tables.OWN_WIRING not in out


def test_a_row_that_does_not_match_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = UnitsRow("squeezenet", 50, 51)
    monkeypatch.setattr(tables, "table2", lambda: [wrong])
    assert main.run(["reproduce", "table2"]) == 0
    assert "squeezenet      50      51   no" in capsys.readouterr().out


def test_table_2(capsys: pytest.CaptureFixture[str]) -> None:
    answer = document(capsys, "table2")
    assert answer["table"] == 2
    assert {row["network"]: (row["ours"], row["paper"], row["match"]) for row in answer["rows"]} == {
        name: (units, units, True) for name, units in TABLE_2.items()
    }


@pytest.mark.parametrize("files", [0, 3])
def test_edge_lists_that_are_not_four(capsys: pytest.CaptureFixture[str], tmp_path: Path, files: int) -> None:
    for number in range(files):
        (tmp_path / f"{number}.txt").write_text("2\n1\n0 1\n")
    assert main.run(["reproduce", "table1", "--randwire-graphs", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: randwire: {files} edge lists")


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


def test_nasnet_as_published_is_another_network(capsys: pytest.CaptureFixture[str]) -> None:
    row = next(row for row in document(capsys, "table1")["rows"] if row["network"] == "nasnet_large")
    assert "ios" in row["note"]
    assert tables.largest_block(cut(load("nasnet_large"))).transitions < row["ours"]["transitions"]


@needs_reference
def test_figures_are_the_reference_s() -> None:
    reference = json.loads((REFERENCE / "paper.json").read_text())
    keys = ("n", "d", "bound", "transitions", "schedules")
    for name, row in TABLE_1.items():
        assert tuple(vars(row).values()) == tuple(reference["table1"][name][key] for key in keys)
    assert {name: reference["table2"][name] for name in TABLE_2} == TABLE_2


@pytest.mark.parametrize("command", ["table1", "table2"])
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main.run(["reproduce", command, "--help"]) == 0
    assert f"Example: iosfarm reproduce {command}" in capsys.readouterr().out
