"""Schedule files that are damaged, edited or for another graph: what does not fit is said in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from farm_examples import branches
from schedule_examples import Document

from iosfarm.farm.schedules.schedule_file import load
from iosfarm.ir.errors import UsageError
from iosfarm.zoo.load import load as load_graph


def rewrite(file: Path, change: Callable[[Document], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refused(file: Path) -> str:
    """The one line that says why."""
    with pytest.raises(UsageError) as caught:
        load(file)
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    return line.removeprefix(f"{file}: ")


@pytest.mark.parametrize("eighth", range(8))
def test_truncated(file: Path, eighth: int) -> None:
    whole = file.read_bytes()
    step = 97  # no divisor of any line's length, so that cuts fall everywhere
    for length in range(eighth * step, len(whole) - 2, 8 * step):
        file.write_bytes(whole[:length])
        assert "not JSON" in refused(file)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff\xfe\x00{", bytes(range(256)), b"[" * 100_000])
def test_not_json_at_all(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert refused(file).startswith(("not JSON", "cannot read the schedule: not a text file"))


@pytest.mark.parametrize("content", ["[]", "null", "1", '"iosfarm-schedule"', "{}", '{"format": "zoo"}'])
def test_another_kind_of_document(file: Path, content: str) -> None:
    file.write_text(content)
    assert refused(file).startswith("not a schedule file")


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
def test_edited(file: Path, change: Callable[[Document], object], line: str) -> None:
    rewrite(file, change)
    assert line in refused(file)


def test_several_mistakes_are_counted(file: Path) -> None:
    def change(content: Document) -> None:
        content["surplus"] = content["batch"] = -1
        content["stages"][0]["predicted"] = -1

    rewrite(file, change)
    assert "(and 2 more)" in refused(file)


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
def test_stages_that_do_not_fit_the_graph(file: Path, stages: str, line: str) -> None:
    rewrite(file, _put("stages", value=unit_stages(stages)))
    if not line:
        load(file)
    else:
        assert refused(file).startswith(line)


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        ("a|b c pool join last", ""),
        ("a|pool b c join last", "stage 0: these units cannot be merged into one convolution"),
        ("a,c|b pool join last", "stage 0: a merge stage has one unit a group"),
        ("a b|c pool join last", "stage 1: these units cannot be merged into one convolution"),
    ],
)
def test_merges_that_cannot_be(file: Path, stages: str, line: str) -> None:
    rewrite(file, _put("stages", value=unit_stages(stages, "merge")))
    if not line:
        load(file)
    else:
        assert refused(file).startswith(line)


def test_a_merge_of_one(file: Path) -> None:
    rewrite(file, _put("stages", value=unit_stages("a b c pool join last")))
    rewrite(file, _put("stages", 0, "strategy", value="merge"))
    assert refused(file).startswith("stage 0: these units cannot be merged")


def test_for_another_graph(file: Path) -> None:
    load(file, branches())
    for other in (branches(channels=33), load_graph("sample")):
        with pytest.raises(UsageError, match=f"made for another graph than '{other.name}'"):
            load(file, other)


VALUES = (None, True, -1, 1.5, "", "x", [], {}, [[]], 10**30)


def test_no_single_edit_of_a_value_ends_in_a_traceback(file: Path, original: Document) -> None:
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
            file.write_text(json.dumps(content))
            try:
                load(file)
            except UsageError as error:
                lines.append(str(error))
    assert len(lines) > 500
    assert [line for line in lines if "\n" in line or not line.startswith(f"{file}: ")] == []
