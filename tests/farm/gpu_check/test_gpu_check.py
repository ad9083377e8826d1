"""The GPU check without a GPU: its sections on a simulated one, and what becomes of a bad section."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import iosfarm
from iosfarm.cli import main
from iosfarm.farm.gpu_check import check, facts, searching
from iosfarm.farm.gpu_check.check import run_check
from iosfarm.farm.gpu_check.context import Context, Section
from iosfarm.farm.gpu_check.process import run_for
from iosfarm.farm.gpu_check.rows import Rows, read_rows
from iosfarm.farm.gpu_check.sanitizer import network
from iosfarm.farm.gpu_check.summary import summary
from iosfarm.kernels import open_runtime
from iosfarm.search.solver import NoScheduleError

SECTIONS = ("steady-start", "search:sample", "steady-end")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    run_check(folder, device="sim:v100", models=("sample",), only=SECTIONS)
    return folder


def test_results_say_what_was_found(checked: Path) -> None:
    document = json.loads((checked / "results.json").read_text())
    assert list(document["sections"]) == list(SECTIONS)
    assert all(section["code"] == 0 and section["rows"] for section in document["sections"].values())
    found = document["summary"]["networks"]["sample"]
    assert found["over_sequential_graph"] > 1.2
    least, most = found["sum_of_stages_over_whole"]
    assert 0.9 < least <= most < 1.1
    assert document["summary"]["start_to_end_worst"] < 0.01
    assert not (checked / "work" / "latency").exists()


def test_what_was_measured_can_be_searched_again(checked: Path, tmp_path: Path) -> None:
    """The export is a device: the same search on it finds the same schedule, and measures nothing anew."""
    graph = iosfarm.load("sample")
    database = str(tmp_path / "latency.db")
    schedule = iosfarm.search(graph, device=f"replay:{checked}", database=database, gap=0.01)
    document = json.loads((checked / "schedules" / "both" / "sample-sim-v100-b1-float32.json").read_text())
    found = document["latencies"]["optimised"]["predicted"]
    assert schedule.predicted == pytest.approx(found, rel=0.02)


def test_sections_that_need_a_gpu_are_left_out_without_one() -> None:
    names = {section.name for section in check.sections(("sample",)) if section.gpu}
    assert {"numerics", "probes", "conformance", "sanitizer"} <= names


def test_what_ends_the_check_loses_nothing_of_the_sections_before(tmp_path: Path) -> None:
    def report(line: str) -> None:
        if line.startswith("steady-end"):
            raise KeyboardInterrupt

    sections = ("steady-start", "steady-end")
    with pytest.raises(KeyboardInterrupt):
        run_check(tmp_path, device="sim:v100", models=("sample",), only=sections, report=report)
    assert list(json.loads((tmp_path / "results.json").read_text())["sections"]) == ["steady-start"]
    with closing(open_runtime(f"replay:{tmp_path}")) as replayed:
        assert replayed.fingerprint()[0].kind == "replay"


def test_what_a_program_printed_in_its_time_counts() -> None:
    code = "import sys, time; print('one', flush=True); print('two', file=sys.stderr, flush=True); time.sleep({})"
    command = [sys.executable, "-c", code.format(60)]
    assert run_for(command, 2.0, errors_apart=True) == (None, "one\n", "two\n")
    assert run_for([*command[:2], code.format(0)], 60.0)[0] == 0


def section_process(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    limit: float = 5.0,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """What `_section` says of a process that runs this code instead of a section."""
    real = subprocess.Popen

    def start(command: list[str], **options: object) -> object:
        return real([sys.executable, "-c", code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(check.subprocess, "Popen", start)
    monkeypatch.setattr(check, "GRACE", 0.0)
    return check._section("facts", tmp_path, tmp_path / "work", "sim:v100", limit, ("sample",), report)


def test_a_section_that_crashes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = section_process(tmp_path, monkeypatch, "import os; print('before', flush=True); os.abort()")
    assert how["code"] == -6
    assert how["end"] == ["before"]


def test_a_section_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = section_process(tmp_path, monkeypatch, "import time; time.sleep(600)", limit=0.5)
    assert how["timed_out"] is True
    assert isinstance(how["seconds"], float)
    assert how["seconds"] < 60


BAD = """
import os, signal, sys, time
from pathlib import Path
from iosfarm.farm.gpu_check.rows import Rows
from iosfarm.ir.errors import DeviceLost

name, folder = sys.argv[1:3]
Rows(Path(folder, "work", name.replace(":", "-") + ".json")).add(before="it went wrong")
{way}
"""
WAYS = {
    "raises": "raise ValueError('planted')",
    "lost": "raise DeviceLost('a kernel used memory that is not its own (CUDA error 700)')",
    "memory": "raise MemoryError('the GPU has no 3 MiB free now')",
    "hangs": "time.sleep(600)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
}


def test_whatever_happens_to_some_sections_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: an exception, a poisoned context, no memory, a hang, a crash."""
    planted = dict(zip(("facts", "steady-start", "networks", "search:squeezenet", "search:sample"), WAYS, strict=True))
    real = subprocess.Popen

    def start(command: list[str], **options: object) -> object:
        name = command[3]
        if name in planted:
            command = [sys.executable, "-c", BAD.format(way=WAYS[planted[name]]), *command[3:]]
        return real(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(check.subprocess, "Popen", start)
    monkeypatch.setattr(check, "GRACE", 0.5)
    monkeypatch.setattr(check, "_network", lambda model, *_: iter([Section(f"search:{model}", 4, lambda _: None)]))
    document = run_check(tmp_path, device="sim:v100", models=("sample", "squeezenet"))
    assert json.loads((tmp_path / "results.json").read_text()) == document
    sections = document["sections"]
    assert isinstance(sections, dict)
    assert list(sections) == ["facts", "steady-start", "search:sample", "networks", "search:squeezenet", "steady-end"]
    for name, way in planted.items():
        section = sections[name]
        assert section["rows"] == [{"before": "it went wrong"}]
        assert section.get("timed_out", False) == (way == "hangs")
        assert section["code"] not in (0, None)
    assert "planted" in " ".join(sections["facts"]["end"])
    assert "CUDA error 700" in " ".join(sections["steady-start"]["end"])
    assert "MemoryError: the GPU has no 3 MiB" in " ".join(sections["networks"]["end"])
    assert sections["steady-end"]["code"] == 0
    with closing(open_runtime(f"replay:{tmp_path}")) as replayed:
        assert replayed.fingerprint()[0].kind == "replay"


def test_what_cannot_be_exported_or_summed_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(*_: object) -> None:
        raise OSError("database disk image is malformed")

    monkeypatch.setattr(check, "_export", torn)
    monkeypatch.setattr(check, "summary", torn)
    monkeypatch.setattr(check, "_section", lambda *_: {"code": 0})
    run_check(tmp_path, device="sim:v100", models=("sample",), only=("steady-start", "steady-end"))
    sections = json.loads((tmp_path / "results.json").read_text())["sections"]
    assert list(sections) == ["steady-start", "steady-end"]
    for section in sections.values():
        assert section["export_failed"] == section["summary_failed"] == "OSError: database disk image is malformed"


def test_rows_are_kept_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert read_rows(file) == []
    rows = Rows(file)
    for number in range(3):
        rows.add(number=number)
        assert read_rows(file) == rows.rows
    file.write_text("{")
    assert read_rows(file) == []


def test_a_summary_of_nothing_claims_nothing() -> None:
    assert summary({}) == {"networks": {}}
    assert summary({"search:x": [{"model": "x", "search": "both", "skipped": "no time left"}]}) == {"networks": {}}


def test_wrong_numbers_are_in_the_summary() -> None:
    row = {"kind": "conv2d", "dtype": "float32", "provider": "cudnn", "error": 0.1}
    found = summary({"numerics": [{**row, "within": False}, {**row, "kind": "add", "within": True}]})
    assert found["numerics_within_limits"] is False
    assert found["numerics_beyond_limits"] == ["conv2d float32 cudnn"]


def test_what_the_sanitizer_runs_is_a_network() -> None:
    assert len(network().units) > 10


def test_a_machine_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.run(["doctor", "--gpu", "--device", "cuda:99", "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "cuda" in err
    assert not (tmp_path / "out").exists()


def test_scripts_of_a_checkout_are_run_and_what_goes_wrong_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    context = Context("cuda:x", tmp_path, "", time.monotonic() + 120, Rows(None), ("sample",))
    monkeypatch.chdir(tmp_path)
    facts.benchmark(context)
    facts.conformance(context)
    assert all("checkout" in row["skipped"] for row in context.rows.rows)
    monkeypatch.chdir(root)
    facts.benchmark(context)
    row = context.rows.rows[-1]
    assert (row["code"], row["found"]) == (2, None)
    assert "'cuda:x' is not a CUDA device" in row["end"]


def test_without_cudnn_the_rest_is_tried_with_our_own_convolutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, str]] = []

    def section(name: str, _: Path, __: Path, device: str, *___: object) -> dict[str, object]:
        begun.append((name, device))
        return {"code": 1 if name == "facts" else 0}

    monkeypatch.setattr(check, "_section", section)
    told: list[str] = []
    only = ("facts", "steady-start", "numerics")
    document = run_check(tmp_path, device="cuda?precision=tf32", models=("sample",), only=only, report=told.append)
    own = "cuda?precision=tf32&provider=iosfarm"
    assert begun == [("facts", "cuda?precision=tf32"), ("steady-start", own), ("numerics", own)]
    assert document["device"] == own
    assert any("did not open" in line for line in told)
    begun.clear()
    run_check(tmp_path, device="cuda?provider=iosfarm", models=("sample",), only=only, report=told.append)
    assert {device for _, device in begun} == {"cuda?provider=iosfarm"}


def test_ctrl_c_keeps_the_rows_of_the_section_that_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section(name: str, folder: Path, work: Path, *_: object) -> dict[str, object]:
        Rows(work / f"{name}.json").add(stage="one")
        if name == "steady-end":
            raise KeyboardInterrupt
        return {"code": 0}

    monkeypatch.setattr(check, "_section", section)
    with pytest.raises(KeyboardInterrupt):
        run_check(tmp_path, device="sim:v100", models=("sample",), only=("steady-start", "steady-end"))
    sections = json.loads((tmp_path / "results.json").read_text())["sections"]
    assert sections["steady-end"] == {"interrupted": True, "rows": [{"stage": "one"}]}


def test_what_a_section_prints_is_told_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The section ends only once its first line was told."""
    told: list[str] = []

    def report(line: str) -> None:
        told.append(line.strip())
        (tmp_path / "told").touch()

    code = (
        "import os, sys, time; print('first', flush=True); end = time.time() + 60\n"
        f"while not os.path.exists({str(tmp_path / 'told')!r}) and time.time() < end: time.sleep(0.01)\n"
        "print('second', end='')"
    )
    how = section_process(tmp_path, monkeypatch, code, limit=90, report=report)
    assert (how["code"], told) == (0, ["first", "second"])
    assert isinstance(how["seconds"], float)
    assert how["seconds"] < 50


def test_a_search_that_time_ends_goes_on_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is too short for any schedule costs no more than its own time."""
    begun: list[str] = []

    def search(context: Context, model: str, executor: object, name: str, *_: object) -> bool:
        begun.append(name)
        if len(begun) == 1:
            raise NoScheduleError("no schedule yet", where=model)
        context.rows.add(model=model, search=name)
        return False

    monkeypatch.setattr(searching, "_search", search)
    rows = Rows(None)
    searching.run(Context("sim:v100", tmp_path, "", time.monotonic() + 100, rows, ("sample",)), model="sample")
    assert begun == ["both", "both", "concurrent", "merge"]
    assert rows.rows[0] == {"model": "sample", "search": "both", "failed": "sample: no schedule yet"}
    begun.clear()
    monkeypatch.setattr(searching, "AGAIN", 0.0)  # too little to go on with
    searching.run(Context("sim:v100", tmp_path, "", time.monotonic() + 100, Rows(None), ("sample",)), model="sample")
    assert begun == ["both", "concurrent", "merge"]
