"""Schedule files: what is written comes back, whole, and as the published schema says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from farm_examples import branches
from schedule_examples import NAMES, Document

from iosfarm.farm.jobs.job import JobResult
from iosfarm.farm.output_files import OutputError, check_folder
from iosfarm.farm.schedules.schedule_file import load, save
from iosfarm.farm.schedules.schedule_format import ScheduleFile

SCHEMA = "docs/schedule.schema.json"


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    content, graph = load(files[name])
    assert graph.content_hash == content.graph_hash
    assert content.schedule().place(graph, content.layout)
    again = tmp_path / "again.json"
    save(content, again)
    assert again.read_bytes() == files[name].read_bytes()
    assert load(again)[0] == content


def test_a_file_holds_what_was_found(files: dict[str, Path], results: dict[str, JobResult]) -> None:
    result = results["branches"]
    content, graph = load(files["branches"], branches())
    assert content.schedule() == result.schedule
    assert graph == branches()
    assert content.latencies["optimised"].measured == result.latency("optimised")
    assert tuple(content.latencies["greedy"].samples) == result.latencies["greedy"].samples
    assert content.device.simulated
    assert content.device.environment == dict(result.device.environment.hard)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_how_good_it_is(files: dict[str, Path], results: dict[str, JobResult], name: str) -> None:
    result = results[name]
    content, _ = load(files[name])
    certificate = result.schedules["optimised"].certificate
    assert certificate is not None
    if content.chosen == "optimised":
        assert content.schedule().certificate == certificate
    assert content.certificate is not None
    assert content.certificate.kind == certificate.kind
    assert content.certificate.gap == pytest.approx(certificate.gap)
    assert content.certificate.assumptions == list(certificate.assumptions)
    assert (content.certificate.audited, content.certificate.broken) == (certificate.audited, certificate.broken)
    assert content.certificate.structural == certificate.structural
    assert content.certificate.confidence == certificate.confidence
    assert content.regret == result.regret is not None
    assert content.counts.rounds == result.counts.rounds > 0
    assert content.counts.checked == result.counts.checked
    assert content.counts.stages == result.counts.stages
    assert content.interrupted is result.interrupted


def test_a_file_says_how_it_was_searched_for(files: dict[str, Path]) -> None:
    contents = {name: load(path)[0] for name, path in files.items()}
    settings = {name: content.settings for name, content in contents.items()}
    kinds = {name: content.certificate and content.certificate.kind for name, content in contents.items()}
    assert kinds["branches"] == "exhaustive"
    assert (settings["branches"].method, settings["branches"].gap) == ("exhaustive", None)
    assert (settings["branches"].certificate, settings["branches"].confidence) == (None, None)
    assert kinds["statistical"] == "statistical"
    assert (settings["statistical"].method, settings["statistical"].gap) == ("certified", 0.02)
    assert (settings["statistical"].certificate, settings["statistical"].confidence) == ("statistical", 0.95)
    assert contents["statistical"].certificate.confidence == 0.95  # type: ignore[union-attr]
    assert kinds["structural"] == settings["structural"].certificate == "structural"
    assert (settings["limited"].budget, settings["limited"].budget_stages) == (None, 20)


@pytest.mark.parametrize("name", NAMES)
def test_files_meet_the_published_schema(files: dict[str, Path], root: Path, name: str) -> None:
    schema = json.loads((root / SCHEMA).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(files[name].read_text()), schema, jsonschema.Draft202012Validator)


def test_the_published_schema_refuses_what_load_refuses(original: Document, root: Path) -> None:
    schema = json.loads((root / SCHEMA).read_text())
    for key, value in [("version", 2), ("stages", []), ("seconds", -1), ("surplus", 1)]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**original, key: value}, schema, jsonschema.Draft202012Validator)


def test_the_published_schema_is_current(root: Path) -> None:
    # To renew it: python -c "import json; from iosfarm.farm.schedules.schedule_format import ScheduleFile as S;
    #   print(json.dumps(S.model_json_schema(), indent=1))" > docs/schedule.schema.json
    assert json.loads((root / SCHEMA).read_text()) == ScheduleFile.model_json_schema()


def test_the_file_says_how_the_bounds_drew_together(files: dict[str, Path]) -> None:
    certificate = json.loads(files["statistical"].read_text())["certificate"]
    points = certificate["history"]
    assert len(points) > 1
    assert (points[-1]["lower"], points[-1]["upper"]) == (certificate["lower"], certificate["upper"])
    for name in ("seconds", "known"):
        assert [p[name] for p in points] == sorted(p[name] for p in points)
    assert [tuple(p.values()) for p in points] == [
        (p.seconds, p.known, p.lower, p.upper)
        for p in load(files["statistical"])[0].certificate.value().history  # type: ignore[union-attr]
    ]


def test_the_file_says_what_each_unit_takes_alone(files: dict[str, Path], results: dict[str, JobResult]) -> None:
    for name, path in files.items():
        content, graph = load(path)
        assert content.alone.keys() == {unit.name for unit in graph.units}
        predicted = results[name].schedules["sequential"].predicted
        assert sum(content.alone.values()) == pytest.approx(predicted, rel=1e-12)


def test_saving_over_a_file_is_whole_or_not_at_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, _ = load(file)
    before = file.read_bytes()

    def full(self: Path, *_: object, **__: object) -> int:
        with self.open("wb") as opened:
            opened.write(b"{")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match=r"cannot write the schedule: No space left on device; what was measured"):
            save(content, file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("below", ["file/below", "file", "/proc/iosfarm"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write here: .*; choose another folder with --out"):
        check_folder(tmp_path / below)


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
