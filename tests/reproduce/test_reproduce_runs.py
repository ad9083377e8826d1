"""Runs: folders, interrupts and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reproduce_command import run

from iosfarm.farm.output_files import OutputError
from iosfarm.reproduce import figures, plots, runs
from iosfarm.reproduce.figures import FIGURES
from iosfarm.reproduce.lab import Lab
from iosfarm.reproduce.result import Draft, Status, read
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
