"""Runs: folders, interrupts, errors; plots and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iosfarm.cli import main
from iosfarm.farm.output_files import OutputError
from iosfarm.reproduce import figures, plots, runs
from iosfarm.reproduce.figures import FIGURES
from iosfarm.reproduce.lab import Lab
from iosfarm.reproduce.page import BEGIN, END, render, update
from iosfarm.reproduce.result import Column, DeviceFacts, Draft, Kind, Result, Status, cell, heading, read
from iosfarm.reproduce.runs import new_folder, run_figures

DEVICE = "sim:v100?noise=0"
QUICK = ("table2", "example", "complexity")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("runs") / "latency.db")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """`all` is a few figures that are made at once."""
    monkeypatch.setattr(figures, "FIGURES", {name: FIGURES[name] for name in QUICK})


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(["reproduce", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


# -- folders -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_all_writes_documents_plots_and_an_index(capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str) -> None:
    code, out, err = run(capsys, "all", "--device", DEVICE, "--db", url, "--out", str(tmp_path), "--json")
    assert code == 0, err
    answer = json.loads(out)
    folder = Path(answer["folder"])
    assert folder == tmp_path / "sim-v100-noise-0-001"
    assert [result["figure"] for result in answer["results"]] == list(QUICK)
    written = {path.name for path in folder.iterdir()}
    assert written == {f"{name}.{kind}" for name in QUICK for kind in ("json", "png", "svg")} | {"index.json"}
    assert json.loads((folder / "index.json").read_text())["figures"]["example"]["status"] == "complete"
    result = read(folder / "example.json")
    assert result.device is not None
    assert (result.simulated, result.device.spec) == (True, DEVICE)
    assert result.device.environment["noise"] == 0
    svg = (folder / "example.svg").read_text()
    assert "(simulated)" in svg
    assert "time (ms)" in svg
    assert (folder / "example.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("quick")
def test_older_results_stay(capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str) -> None:
    arguments = ("example", "--device", DEVICE, "--db", url, "--out", str(tmp_path))
    code, out, err = run(capsys, *arguments)
    assert code == 0, err
    assert "The motivating example under three schedules" in out
    assert "simulated" in out
    before = (tmp_path / "sim-v100-noise-0-001" / "example.json").read_bytes()
    assert run(capsys, *arguments)[0] == 0
    assert (tmp_path / "sim-v100-noise-0-001" / "example.json").read_bytes() == before
    assert (tmp_path / "sim-v100-noise-0-002" / "example.json").exists()
    assert "sim-v100-noise-0-001" in out


def test_no_number_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MOST_RUNS", 3)
    assert [new_folder(tmp_path, "cpu").name for _ in range(2)] == ["cpu-001", "cpu-002"]
    with pytest.raises(OutputError, match="choose another --out"):
        new_folder(tmp_path, "cpu")


def test_a_file_where_the_folder_should_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = run(capsys, "table2", "--out", str(tmp_path / "file"))
    assert (code, out) == (1, "")
    assert "not a folder" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("example", "--device", "sim:v1000"), "unknown simulated device"),
        (("example", "--device", "toaster"), "unknown device 'toaster'"),
        (("example", "--device", ""), "an empty --device"),
        (("example", "--budget", "soon"), "--budget soon"),
        (("figure99",), "No such command"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_no_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    out = tmp_path / "out"
    code, text, err = run(capsys, *arguments, *(("--out", str(out)) if len(arguments) > 1 else ()))
    assert (code, text) == (2, "")
    assert line in err.splitlines()[-1]
    assert not out.exists()


def test_plots_are_left_out_without_matplotlib(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "available", lambda: False)
    code, _, err = run(capsys, "table2", "--out", str(tmp_path))
    assert code == 0
    assert plots.HINT in err
    assert [path.name for path in sorted((tmp_path / "table2-001").iterdir())] == ["index.json", "table2.json"]


# -- interrupts --------------------------------------------------------------------------------------------------


def test_an_interrupted_run_says_how_far_it_came_and_goes_on(tmp_path: Path) -> None:
    url = str(tmp_path / "latency.db")
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 30

    folder = new_folder(tmp_path, "first")
    first = run_figures(["table2", "resnet-vgg", "example"], Lab(DEVICE, url, stop=stop), folder, plot=False)
    assert first.interrupted
    assert [result.status for result in first.results] == [Status.COMPLETE, Status.PARTIAL]
    assert first.left == ("example",)
    assert len(first.results[1].rows) < 4
    index = json.loads((folder / "index.json").read_text())
    assert index["interrupted"] is True
    assert {name: item["status"] for name, item in index["figures"].items()} == {
        "table2": "complete", "resnet-vgg": "partial", "example": "not begun",
    }  # fmt: skip
    assert read(folder / "resnet-vgg.json").status is Status.PARTIAL
    second = run_figures(["example"], Lab(DEVICE, url), None)
    assert not second.interrupted
    assert second.results[0].status is Status.COMPLETE


def test_ctrl_c_reports_a_partial_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    def interrupted(draft: Draft, lab: Lab) -> None:
        draft.add(network="squeezenet", units=50)
        os.kill(os.getpid(), signal.SIGINT)
        lab.check()

    broken = FIGURES["table2"].__class__(
        "table2", "Table 2", FIGURES["table2"].columns, interrupted, needs_device=False
    )
    monkeypatch.setattr(figures, "FIGURES", {"table2": broken, "complexity": FIGURES["complexity"]})
    monkeypatch.setattr(runs, "FIGURES", figures.FIGURES)
    code, out, err = run(capsys, "all", "--out", str(tmp_path), "--json")
    assert code == 130
    assert "goes on from there" in err
    answer = json.loads(out)
    assert answer["interrupted"] is True
    assert answer["figures"]["table2"]["status"] == "partial"
    assert answer["figures"]["complexity"]["status"] == "not begun"
    assert [row["network"] for row in answer["results"][0]["rows"]] == ["squeezenet"]


# -- the page ----------------------------------------------------------------------------------------------------


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
