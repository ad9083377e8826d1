"""Imports of lines that are missing, wrong, or hold what cannot have been measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from database_examples import stage
from export_examples import export_some, lines, write

from iosfarm.db import LatencyDatabase
from iosfarm.ir.errors import UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return export_some(tmp_path / "some.jsonl")


@pytest.fixture
def database() -> Iterator[LatencyDatabase]:
    with LatencyDatabase("sqlite://") as database:
        yield database


def test_the_format_is_what_it_was(path: Path) -> None:
    """Files of this version are somebody's backups: a change needs a new version."""
    content = lines(path)
    assert [line["type"] for line in content] == [
        *("iosfarm", "device", "environment", "stage", "measurement", "measurement", "stage", "measurement", "end")
    ]
    assert content[0]["version"] == 1
    assert content[4] == {
        "type": "measurement",
        "stage": stage(1).key,
        "device": 1,
        "environment": 1,
        "search": None,
        "samples": [0.001, 0.0015, 0.30000000000000004],
        "conditions": {"clock": 1.9e9, "name": "é", "temperature": 55, "throttled": False},
        "status": "ok",
        "reason": "",
        "unroll": 4,
        "rounds": 3,
        "worker": "worker-1",
        "attempt": 2,
        "measured_at": "2024-05-01T12:00:00+00:00",
    }
    assert content[-1] == {"type": "end", "lines": 8}


def change(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda line: {**line, **values}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda line: "{", "JSON"),
        (lambda line: "[1, 2]", "object"),
        (lambda line: "", "JSON"),
        (lambda line: json.dumps(line).replace("0.0015", "NaN"), "samples"),
        (lambda line: json.dumps(line).replace("0.0015", "Infinity"), "samples"),
        (lambda line: json.dumps(line).replace("0.0015", "1e999"), "samples"),
        (change(samples=[0.001, -0.001]), "samples.1: Input should be greater than or equal to 0.000000001"),
        (change(samples=[0.0]), "samples.0"),
        (change(samples=[1e-12]), "samples.0"),
        (change(samples=[86_400.0]), "samples.0: Input should be less than or equal to 3600"),
        (change(samples=["fast"]), "samples.0"),
        (change(samples=[]), "an ok measurement needs samples"),
        (change(samples=None), "samples"),
        (change(status="good"), "status"),
        (change(status="failed", samples=[]), "needs a reason"),
        (change(measured_at="2024-05-01T12:00:00"), "measured_at: Input should have timezone info"),
        (change(measured_at="1970-01-01T00:00:00Z"), "measured_at: nothing was measured in the year 1970"),
        (change(measured_at="yesterday"), "measured_at"),
        (change(stage="f" * 64), "there is no stage ffff"),
        (change(stage="'; DROP TABLE stage; --"), "stage"),
        (change(device=7), "there is no device 7"),
        (change(environment=7), "there is no environment 7"),
        (change(search=7), "there is no search 7"),
        (change(unroll=0), "unroll"),
        (change(attempt=2**40), "attempt"),
        (change(worker="\0"), "worker: it holds a NUL"),
        (change(conditions={"clock": [1]}), "conditions"),
        (change(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda line: {"type": "measurement"}, "Field required (and 9 more)"),
        (lambda line: {"type": "program"}, "program"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_stored(
    path: Path, database: LatencyDatabase, how: Callable[[dict[str, Any]], Any], why: str
) -> None:
    content: list[Any] = list(lines(path))
    content[4] = how(content[4])
    write(path, content)
    report = database.import_file(path)
    assert (report.stored, report.rejected, report.complete) == (2, 1, True)
    (named,) = report.named
    assert named.line == 5
    assert why in named.reason
    assert "\n" not in named.reason
    assert {row.median for row in database.query()} == {2.0, None}


@pytest.mark.parametrize(
    ("number", "how", "rejected"),
    [
        (1, change(kind=""), 4),  # the device, and its measurements
        (2, change(hard={"runtime": None}), 4),
        (3, change(canonical='{"number":7}'), 3),  # a stage that is not what its key says
        (3, change(key=stage(5).key), 3),
        (3, change(flops=2**63), 3),
        (3, change(operators=[{"kind": "conv2d", "stride": -1}]), 3),
    ],
)
def test_what_refers_to_a_bad_row_is_rejected_with_it(
    path: Path, database: LatencyDatabase, number: int, how: Callable[[dict[str, Any]], Any], rejected: int
) -> None:
    content: list[Any] = list(lines(path))
    content[number] = how(content[number])
    write(path, content)
    report = database.import_file(path)
    assert (report.stored, report.rejected) == (4 - rejected if rejected < 4 else 0, rejected)
    assert report.named[0].line == number + 1


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_a_file_that_is_cut_short(path: Path, database: LatencyDatabase, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    report = database.import_file(path)
    # A missing last line end is no harm; half a line is one that is named.
    assert report.complete == (cut == 1)
    assert report.rejected == (cut != 1)
    path.write_bytes(whole)
    again = database.import_file(path)
    assert (again.complete, again.stored + again.known, again.rejected) == (True, 3, 0)
    assert len(database.query()) == 3


def test_lines_that_are_missing_or_come_after_the_end(path: Path, database: LatencyDatabase) -> None:
    content = lines(path)
    write(path, [*content[:5], *content[6:]])
    assert database.import_file(path).complete is False
    write(path, [*content, content[4]])
    report = database.import_file(path)
    assert (report.rejected, report.named[0].reason) == (1, "a line after the end")


@pytest.mark.parametrize(
    ("first", "what"),
    [
        ({"type": "iosfarm", "version": 2}, r"made by a newer iosfarm \(format 2; this one reads 1\); upgrade iosfarm"),
        ({"type": "iosfarm", "version": True}, "an export of version True"),
        ({"type": "iosfarm"}, "an export of version None"),
        ({"type": "other"}, "this is no export of a latency database"),
        ("{" * 100_000, "this is no export of a latency database"),
        ("", "this is no export of a latency database"),
        ("\ud800".encode("utf-16", "surrogatepass").decode("latin1"), "this is no export"),
    ],
)
def test_another_file(path: Path, database: LatencyDatabase, first: Any, what: str) -> None:
    write(path, [first, *lines(path)[1:]])
    with pytest.raises(UsageError, match=what):
        database.import_file(path)
    assert database.stats().measurements == 0
