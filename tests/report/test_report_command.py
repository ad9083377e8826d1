"""`iosfarm report` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report_examples import Searched

from iosfarm.cli import main
from iosfarm.db import LatencyDatabase

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def iosfarm_report(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs `iosfarm report` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run(["report", *map(str, options)])
        return code, *capsys.readouterr()

    return run


def test_as_text(iosfarm_report: Command, searched: Searched) -> None:
    code, out, err = iosfarm_report(searched.squeezenet, "--db", searched.database)
    assert (code, err) == (0, "")
    document = json.loads(searched.squeezenet.read_text())
    lines = out.splitlines()
    assert lines[1].startswith("squeezenet, batch 1, float32 on ")
    assert "simulated" in lines[1]
    for stage in document["stages"]:
        for group in stage["groups"]:
            assert all(name in out for name in group)
    for section in ("what runs beside what", "where the time goes", "the certificate over time", "where it is from"):
        assert section in out
    assert "the next best: slower by" in out
    assert "not in this report" not in out


def test_text_says_what_is_not_in_the_file(iosfarm_report: Command, searched: Searched) -> None:
    code, out, _ = iosfarm_report(searched.sample)
    assert code == 0
    assert "not in this report: the samples of single stages and what the alternatives cost" in out
    assert "--db" in out
    assert "the next best" not in out


def test_several_as_text_begin_with_a_table(iosfarm_report: Command, searched: Searched) -> None:
    code, out, _ = iosfarm_report(searched.sample, searched.squeezenet)
    assert code == 0
    assert out.lstrip().startswith("2 schedules side by side")


def test_as_json(iosfarm_report: Command, searched: Searched) -> None:
    code, out, err = iosfarm_report(searched.sample, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    (schedule,) = document["schedules"]
    assert schedule["model"] == "sample"
    assert schedule["simulated"] is True
    assert len(schedule["stages"]) == len(json.loads(searched.sample.read_text())["stages"])


def test_as_a_page(iosfarm_report: Command, searched: Searched, tmp_path: Path) -> None:
    code, out, err = iosfarm_report(searched.sample, "--html", "out.html")
    assert (code, out) == (0, "")
    assert err.startswith("wrote out.html (")
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == ["out.html"]


def test_a_page_and_json_at_once(iosfarm_report: Command, searched: Searched, tmp_path: Path) -> None:
    code, out, err = iosfarm_report(searched.sample, "--html", "out.html", "--json")
    assert code == 0
    assert json.loads(out)["schedules"]
    assert err.startswith("wrote out.html")


def test_a_run(iosfarm_report: Command, searched: Searched, run_number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOSFARM_DB", searched.database)
    code, out, _ = iosfarm_report(run_number)
    assert code == 0
    assert out.startswith(f"run {run_number}: outcome finished")
    assert "2 schedules side by side" in out
    assert "the next best" in out


def line(err: str) -> str:
    (only,) = err.splitlines()
    assert "internal error" not in only
    return only.removeprefix("error: ")


def test_a_run_that_is_not_there(iosfarm_report: Command, searched: Searched) -> None:
    code, _, err = iosfarm_report("99", "--db", searched.database)
    assert code == 1
    assert "there is no run 99" in line(err)


def test_a_run_without_schedules(iosfarm_report: Command, tmp_path: Path) -> None:
    with LatencyDatabase(str(tmp_path / "empty.db")) as database:
        number = database.begin_run(["sample"], ["cpu"])
    code, _, err = iosfarm_report(number, "--db", "empty.db")
    assert code == 2
    assert f"run {number} (running) has no schedule" in line(err)


def test_a_schedule_that_this_version_cannot_read(iosfarm_report: Command, searched: Searched, tmp_path: Path) -> None:
    path = searched.changed(tmp_path, lambda document: document.update(version=2))
    code, _, err = iosfarm_report(path)
    assert code == 2
    assert "schedule file version 2" in line(err)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "iosfarm-schedule", "version": 1}', "\x00\x01"])
def test_what_is_no_schedule(iosfarm_report: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    code, _, err = iosfarm_report("bad.json", "--html", "out.html")
    assert code == 2
    assert line(err).startswith("bad.json: ")
    assert not (tmp_path / "out.html").exists()


def test_what_is_not_there(iosfarm_report: Command, tmp_path: Path) -> None:
    assert "missing.json: cannot read" in line(iosfarm_report("missing.json")[2])
    assert "this is a folder" in line(iosfarm_report(str(tmp_path))[2])
    code, _, err = iosfarm_report("1", "--db", "missing.db")
    assert code != 0
    assert "missing.db" in line(err)


def test_an_older_page_is_kept_where_the_new_one_cannot_be_made(
    iosfarm_report: Command, searched: Searched, tmp_path: Path
) -> None:
    (tmp_path / "out.html").write_text("older")
    assert iosfarm_report("missing.json", "--html", "out.html")[0] == 2
    assert (tmp_path / "out.html").read_text() == "older"
    code, _, err = iosfarm_report(searched.sample, "--html", "no/such/folder/out.html")
    assert code == 1
    assert line(err).startswith("no/such/folder/out.html: cannot write the report")


def test_no_target(iosfarm_report: Command) -> None:
    assert iosfarm_report()[0] == 2
