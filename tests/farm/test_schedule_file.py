"""Schedule files: what is written comes back, and what does not fit is said in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from farm_examples import EXHAUSTIVE, branches, drive, job

from iosfarm.db import LatencyDatabase
from iosfarm.farm.jobs.job import JobResult
from iosfarm.farm.output_files import OutputError, check_folder
from iosfarm.farm.schedules.schedule_file import document, load, save
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.errors import UsageError
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.zoo.load import load as load_graph

SCHEMA = "docs/schedule.schema.json"
Document = dict[str, Any]


NAMES = ("branches", "statistical", "structural", "limited")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobResult]:
    """Of real searches: exhaustive, certified in both ways, and one that was stopped and has no end-to-end latency."""
    with LatencyDatabase(str(tmp_path_factory.mktemp("results") / "latency.db")) as database:
        (merged,) = drive([job(device="sim:v100?noise=0", method=EXHAUSTIVE)], database)
        (statistical,) = drive([job(load_graph("googlenet"), method=Method(gap=0.02, confidence=0.95))], database)
        (structural,) = drive([job(load_graph("squeezenet"), method=Method(certificate="structural"))], database)
        stop = iter([False, False, True, True, True]).__next__
        (limited,) = drive([job(device="sim:k80", budget=Budget(stages=20))], database, stop=stop)
    assert limited.interrupted
    return dict(zip(NAMES, (merged, statistical, structural, limited), strict=True))


@pytest.fixture(scope="session")
def files(results: dict[str, JobResult], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Their schedule files."""
    folder = tmp_path_factory.mktemp("schedules")
    for name, result in results.items():
        save(document(result), folder / f"{name}.json")
    return {name: folder / f"{name}.json" for name in results}


@pytest.fixture
def path(files: dict[str, Path], tmp_path: Path) -> Path:
    """A file of one's own."""
    path = tmp_path / "schedule.json"
    path.write_bytes(files["branches"].read_bytes())
    return path


@pytest.fixture(scope="session")
def original(files: dict[str, Path]) -> Document:
    result: Document = json.loads(files["branches"].read_text())
    return result


def rewrite(path: Path, change: Callable[[Document], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(path: Path) -> str:
    """The one line that says why."""
    with pytest.raises(UsageError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


# -- there and back ------------------------------------------------------------------------------------------------


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


# -- damaged -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eighth", range(8))
def test_truncated(path: Path, eighth: int) -> None:
    whole = path.read_bytes()
    step = 97  # no divisor of any line's length, so that cuts fall everywhere
    for length in range(eighth * step, len(whole) - 2, 8 * step):
        path.write_bytes(whole[:length])
        assert "not JSON" in refused(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff\xfe\x00{", bytes(range(256)), b"[" * 100_000])
def test_not_json_at_all(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refused(path).startswith(("not JSON", "cannot read the schedule: not a text file"))


@pytest.mark.parametrize("content", ["[]", "null", "1", '"iosfarm-schedule"', "{}", '{"format": "zoo"}'])
def test_another_kind_of_document(path: Path, content: str) -> None:
    path.write_text(content)
    assert refused(path).startswith("not a schedule file")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing.json")
    assert "Is a directory" in refused(tmp_path)


def _put(*place: str | int, value: object) -> Callable[[Document], None]:
    def change(content: Document) -> None:
        at: Any = content
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_put("version", value=2), "schedule file version 2; this program reads version 1"),
        (_put("version", value=None), "schedule file version None"),
        (_put("version", value="1"), "schedule file version '1'"),
        (_put("surplus", value=1), "surplus: Extra inputs are not permitted"),
        (_put("stages", 0, "surplus", value=1), "stages.0.surplus: Extra inputs are not permitted"),
        (lambda c: c.pop("layout"), "layout: Field required"),
        (_put("seconds", value=float("nan")), "seconds: Input should be a finite number"),
        (_put("stages", 1, "predicted", value=float("inf")), "stages.1.predicted: Input should be a finite number"),
        (_put("stages", 1, "predicted", value=-1e-3), "stages.1.predicted: Input should be greater than 0"),
        (_put("stages", 1, "predicted", value=0), "stages.1.predicted: Input should be greater than 0"),
        (_put("latencies", "greedy", "samples", value=[float("nan")]), "latencies.greedy.samples.0: Input should be"),
        (_put("counts", "stages", value="many"), "counts.stages: Input should be a valid integer"),
        (
            _put("certificate", "kind", value="notarised"),
            "certificate.kind: Input should be 'exhaustive'",
        ),
        (_put("certificate", "confidence", value=1), "certificate.confidence: Input should be less than 1"),
        (_put("regret", value=-1e-3), "regret: Input should be greater than or equal to 0"),
        (_put("settings", "budget_stages", value="few"), "settings.budget_stages: Input should be a valid integer"),
        (_put("batch", value=0), "batch: Input should be greater than or equal to 1"),
        (_put("batch", value=2), "for batch 2, float32, but its graph is for batch 1, float32"),
        (_put("dtype", value="float16"), "for batch 1, float16, but its graph is for batch 1, float32"),
        (_put("layout", value="chwn"), "unknown layout 'chwn'"),
        (_put("created", value="yesterday"), "created: Input should be a valid datetime"),
        (_put("stages", value=[]), "stages: List should have at least 1 item"),
        (_put("stages", 0, "groups", value=[]), "stages.0.groups: List should have at least 1 item"),
        (_put("stages", 0, "groups", value=[[]]), "stage 0: an empty group"),
        (
            _put("stages", 0, "strategy", value="magic"),
            "stages.0.strategy: Input should be 'concurrent', 'merge' or 'mixed'",
        ),
        (_put("stages", 0, "groups", 0, 0, value="nobody"), "stage 0: branches has no unit 'nobody'"),
        (_put("graph", value={}), "its graph: "),
        (_put("graph", "operators", 0, "kind", value="conv9d"), "its graph: unknown operator 'conv9d'"),
        (_put("graph", "operators", 0, "attributes", "out_channels", value=64), "made for another graph than"),
        (_put("graph_hash", value="0" * 64), "made for another graph than 'branches'"),
    ],
)
def test_edited(path: Path, change: Callable[[Document], object], line: str) -> None:
    rewrite(path, change)
    assert line in refused(path)


def test_several_mistakes_are_counted(path: Path) -> None:
    def change(content: Document) -> None:
        content["surplus"] = content["batch"] = -1
        content["stages"][0]["predicted"] = -1

    rewrite(path, change)
    assert "(and 2 more)" in refused(path)


def unit_stages(names: str, strategy: str = "concurrent") -> list[Document]:
    """Stages from `a b|pool`, one for each word, groups separated by bars, units of a group by commas."""
    return [
        {"part": 0, "strategy": strategy if "|" in word else "concurrent", "key": "k"}
        | {"groups": [group.split(",") for group in word.split("|")]}
        for word in names.split()
    ]


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        ("a b c pool join last", ""),
        ("b|pool a,c join,last", ""),
        ("a b c pool join", "branches: the unit 'last' is in no stage"),
        ("a b c pool join last last", "stage 6: the unit 'last' is scheduled twice"),
        ("a|a b c pool join last", "stage 0: the unit 'a' is scheduled twice"),
        ("c a b pool join last", "stage 0: 'c' needs 'a', which has not run"),
        ("a|c b pool join last", "stage 0: 'c' needs 'a', which has not run"),
        ("a b c join pool last", "stage 3: 'join' needs 'pool', which has not run"),
    ],
)
def test_stages_that_do_not_fit_the_graph(path: Path, stages: str, line: str) -> None:
    rewrite(path, _put("stages", value=unit_stages(stages)))
    if not line:
        load(path)
    else:
        assert refused(path).startswith(line)


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        ("a|b c pool join last", ""),
        ("a|pool b c join last", "stage 0: these units cannot be merged into one convolution"),
        ("a,c|b pool join last", "stage 0: a merge stage has one unit a group"),
        ("a b|c pool join last", "stage 1: these units cannot be merged into one convolution"),
    ],
)
def test_merges_that_cannot_be(path: Path, stages: str, line: str) -> None:
    rewrite(path, _put("stages", value=unit_stages(stages, "merge")))
    if not line:
        load(path)
    else:
        assert refused(path).startswith(line)


def test_a_merge_of_one(path: Path) -> None:
    rewrite(path, _put("stages", value=unit_stages("a b c pool join last")))
    rewrite(path, _put("stages", 0, "strategy", value="merge"))
    assert refused(path).startswith("stage 0: these units cannot be merged")


def test_for_another_graph(path: Path) -> None:
    load(path, branches())
    for other in (branches(channels=33), load_graph("sample")):
        with pytest.raises(UsageError, match=f"made for another graph than '{other.name}'"):
            load(path, other)


VALUES = (None, True, -1, 1.5, "", "x", [], {}, [[]], 10**30)


def test_no_single_edit_of_a_value_ends_in_a_traceback(path: Path, original: Document) -> None:
    """Every value of the file is replaced by ones of other types: it loads, or is refused in one line."""

    def places(at: object, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
        if isinstance(at, dict):
            inner = [place for key, value in at.items() for place in places(value, (*before, key))]
        elif isinstance(at, list):
            inner = [place for key, value in enumerate(at[:3]) for place in places(value, (*before, key))]
        else:
            return [before]
        return [before, *inner] if before else inner

    found = places(original)
    assert len(found) > 150
    lines = []
    for number, place in enumerate(found):
        for value in VALUES[number % 2 :: 2]:
            content = copy.deepcopy(original)
            _put(*place, value=value)(content)
            path.write_text(json.dumps(content))
            try:
                load(path)
            except UsageError as error:
                lines.append(str(error))
    assert len(lines) > 500
    assert [line for line in lines if "\n" in line or not line.startswith(f"{path}: ")] == []


# -- writing -------------------------------------------------------------------------------------------------------


def test_saving_over_a_file_is_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, _ = load(path)
    before = path.read_bytes()

    def full(self: Path, *_: object, **__: object) -> int:
        with self.open("wb") as file:
            file.write(b"{")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match=r"cannot write the schedule: No space left on device; what was measured"):
            save(content, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("below", ["file/below", "file", "/proc/iosfarm"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write here: .*; choose another folder with --out"):
        check_folder(tmp_path / below)


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
