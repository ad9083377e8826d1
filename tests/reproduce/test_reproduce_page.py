"""The page of all results: its tables, its plots, and what a cell shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reproduce_command import run

from iosfarm.reproduce import plots
from iosfarm.reproduce.figures import FIGURES
from iosfarm.reproduce.page import BEGIN, END, render, update
from iosfarm.reproduce.result import Column, DeviceFacts, Draft, Kind, Result, Status, cell, heading, read


def some_result(status: Status = Status.COMPLETE, spec: str = "sim:v100", gap: float = 0.01) -> Result:
    draft = Draft(FIGURES["random-320"].columns)
    draft.add(network="random 320", units=321, sequential=0.0158, greedy=0.0131, ios_both=0.0111, gap=gap)
    draft.note("wired | by hand")
    device = DeviceFacts(spec=spec, model="Tesla", simulated=True, environment={"runtime": "sim", "noise": 0.015})
    reason = "" if status is Status.COMPLETE else "interrupted"
    return draft.finish("random-320", FIGURES["random-320"].title, device, 1.0, status, reason)


def stored(result: Result, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.figure}.json").write_text(result.model_dump_json())
    plots.draw(result, folder, ["svg"])
    return folder


def test_the_page_has_tables_and_plots_of_every_device(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    for number, spec in enumerate(("sim:v100", "sim:k80")):
        folder = stored(some_result(spec=spec), tmp_path / str(number))
        code, _, err = run(capsys, "page", str(folder), "--write", str(page))
        assert code == 0, err
    text = page.read_text()
    assert "### sim:v100 (simulated)" in text
    assert "### sim:k80 (simulated)" in text
    assert "| random 320 | 321 | 15.8 | 13.1 | 11.1 | 1.0% |" in text
    assert "![A random network of 320 units](results/sim-k80/random-320.svg)" in text
    assert (page.parent / "results" / "sim-k80" / "random-320.svg").exists()
    before = text
    update([tmp_path / "0"], page)
    assert page.read_text() == before


def test_figures_of_a_device_in_two_environments_are_told_apart(tmp_path: Path) -> None:
    first = some_result()
    assert first.device is not None
    other = first.device.model_copy(update={"environment": {"runtime": "other"}})
    second = first.model_copy(update={"device": other, "figure": "blocks"})
    text = render([(tmp_path / "a.json", first)], tmp_path / "results.md")
    assert "| noise 0.015, runtime sim |" in text
    text = render([(tmp_path / "a.json", first), (tmp_path / "b.json", second)], tmp_path / "results.md")
    assert "| random-320: noise 0.015, runtime sim |" in text
    assert "| blocks: runtime other |" in text


def test_a_partial_result_replaces_no_complete_one(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    update([stored(some_result(), tmp_path / "0")], page)
    partial = stored(some_result(Status.PARTIAL, gap=0.5), tmp_path / "1")
    assert update([partial], page) == [partial / "random-320.json"]
    assert "50.0%" not in page.read_text()
    other = stored(some_result(Status.PARTIAL, spec="sim:h200", gap=0.5), tmp_path / "2")
    assert update([other], page) == []
    assert "**partial**: interrupted" in page.read_text()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no results of iosfarm reproduce here"),
        ("{", "cannot read this result"),
        ("[]", "not a result of iosfarm reproduce"),
        ('{"format": "iosfarm-reproduction", "version": 1}', "was the file edited?"),
    ],
)
def test_folders_without_results(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, line: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    if content is not None:
        (folder / "example.json").write_text(content)
    code, out, err = run(capsys, "page", str(folder), "--write", str(tmp_path / "results.md"))
    assert (code, out) == (2, "")
    assert line in err.splitlines()[-1]
    assert not (tmp_path / "results.md").exists()


def test_the_page_of_this_repository_is_what_its_documents_make(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs"
    documents = sorted((docs / "results").glob("*/*.json"))
    assert documents
    by_device: dict[Path, list[Result]] = {}
    for path in documents:
        by_device.setdefault(path.parent, []).append(read(path))
    copy = tmp_path / "results.md"
    update(list(by_device), copy)
    assert copy.read_text() == (docs / "results.md").read_text()


def test_every_plot_can_be_drawn_again_from_its_document(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs" / "results"
    drawn = set()
    for path in sorted(docs.glob("*/*.json")):
        result = read(path)
        if result.figure in drawn or result.status is Status.NOT_POSSIBLE:
            continue
        drawn.add(result.figure)
        (drawing,) = plots.draw(result, tmp_path, ["svg"])
        text = drawing.read_text()
        assert result.title in text
        assert ("(simulated)" in text) is result.simulated
    assert drawn == set(FIGURES)


def test_a_summary_goes_where_a_text_has_a_place_for_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs" / "results"
    (schedules,) = docs.glob("sim-v100/schedules.json")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "schedules.json").write_text(schedules.read_text())
    page, readme = tmp_path / "docs" / "results.md", tmp_path / "README.md"
    arguments = ("page", str(folder), "--write", str(page), "--summary", str(readme))
    readme.write_text("# Before\n")
    assert run(capsys, *arguments)[0] == 2
    readme.write_text(f"# Before\n{BEGIN}\nold\n{END}\n# After\n")
    assert run(capsys, *arguments)[0] == 0
    text = readme.read_text()
    assert text.startswith(f"# Before\n{BEGIN}\n| device |")
    assert text.endswith(f"[docs/results.md](docs/results.md).\n{END}\n# After\n")
    assert "old" not in text
    row = next(row for row in read(schedules).rows if row["network"] == "squeezenet")
    assert f"| sim:v100 | squeezenet | {float(row['sequential'] or 0) * 1e3:.4g} |" in text
    assert run(capsys, *arguments)[0] == 0
    assert readme.read_text() == text


# -- cells -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (Kind.SECONDS, 0.25, 250.0),
        (Kind.RATIO, 1.234, "1.23x"),
        (Kind.SHARE, 0.0151, "1.5%"),
        (Kind.TEXT, True, "yes"),
        (Kind.TEXT, False, "no"),
        (Kind.NUMBER, None, None),
        (Kind.NUMBER, 7, 7),
    ],
)
def test_cells(kind: Kind, value: Any, shown: object) -> None:
    assert cell(Column(key="x", heading="x", kind=kind), value) == shown


def test_seconds_are_shown_as_milliseconds() -> None:
    assert heading(Column(key="x", heading="latency", kind=Kind.SECONDS)) == "latency ms"
