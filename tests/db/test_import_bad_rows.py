"""Imports of files that are cut short, newer, another program's, or hold what cannot have been measured."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from database_examples import CPU, ENVIRONMENT, NOON, bad, ok, stage
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.db.encoding import encode, place_of
from iosfarm.db.exchange import reading
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Measurement, Status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An export of three measurements of two stages."""
    path = tmp_path / "some.jsonl"
    with LatencyDatabase("sqlite://") as database:
        items = [(stage(1), ok(stage(1))), (stage(1), ok(stage(1), 2.0)), (stage(2), bad(stage(2)))]
        database.record(items, CPU, ENVIRONMENT)
        database.export(path)
    return path


@pytest.fixture
def database() -> Iterator[LatencyDatabase]:
    with LatencyDatabase("sqlite://") as database:
        yield database


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, content: list[Any]) -> None:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in content))


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


def test_no_file(tmp_path: Path, database: LatencyDatabase) -> None:
    with pytest.raises(UsageError, match="cannot read: No such file"):
        database.import_file(tmp_path / "missing.jsonl")
    with pytest.raises(UsageError, match="cannot read: Is a directory"):
        database.import_file(tmp_path)


def test_a_long_line_is_passed_over(path: Path, database: LatencyDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iosfarm.db.exchange.reading.LONGEST_LINE", 2000)
    content = lines(path)
    write(path, [*content[:4], "x" * 10_000, *content[4:]])
    report = database.import_file(path)
    assert (report.stored, report.rejected, report.named[0].line) == (3, 1, 5)


def test_a_large_file_is_read_by_a_process_of_its_own(
    path: Path, database: LatencyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = lines(path)
    write(path, [*content[:4], {"type": "measurement"}, *content[4:]])
    with LatencyDatabase("sqlite://") as other:
        here = other.import_file(path)
    monkeypatch.setattr("iosfarm.db.exchange.reading.ALONE", 0)
    there = database.import_file(path)
    assert there == here
    assert (there.stored, there.rejected) == (3, 1)
    assert {row.stage_key for row in database.query()} == {stage(1).key, stage(2).key}


def test_the_process_that_reads_is_stopped_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of what a pipe holds, with and without Python's own buffer."""
    path = tmp_path / "many.jsonl"
    with LatencyDatabase("sqlite://") as source:
        stages = [stage(n) for n in range(1500)]
        source.record([(s, ok(s)) for s in stages], CPU, ENVIRONMENT)
        source.export(path)
    monkeypatch.setattr("iosfarm.db.exchange.reading.ALONE", 0)
    children: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def seen(*arguments: Any, **options: Any) -> Any:
        children.append(real(*arguments, **options))
        return children[-1]

    monkeypatch.setattr("iosfarm.db.exchange.reading.subprocess.Popen", seen)
    plain = list(reading._checked(path))
    for unbuffered in ("", "1"):
        monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
        read = []
        with closing(reading.entries_of(path)) as entries:
            for number, entry in enumerate(entries):
                read.append(entry)
                if number % 500 == 0:
                    _wait_until_it_is_full(children[-1].stdout, children[-1])
                    for signal_ in (signal.SIGSTOP, signal.SIGCONT):
                        children[-1].send_signal(signal_)
                        time.sleep(0.01)
        assert read == plain


def _wait_until_it_is_full(pipe: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    held, size = bytearray(4), fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        fcntl.ioctl(pipe, termios.FIONREAD, held)
        if int.from_bytes(held, sys.byteorder) >= size // 2:  # and the next piece does not fit
            return
        time.sleep(0.01)


def test_the_process_that_reads_is_killed(
    path: Path, database: LatencyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iosfarm.db.exchange.reading.ALONE", 0)
    real = subprocess.Popen

    def killed(*arguments: Any, **options: Any) -> Any:
        child = real(*arguments, **options)
        child.kill()
        return child

    monkeypatch.setattr("iosfarm.db.exchange.reading.subprocess.Popen", killed)
    with pytest.raises(DatabaseError, match="ended before its end") as caught:
        database.import_file(path)
    assert "import it again" in str(caught.value.hint)


def test_what_cannot_be_read_twice(tmp_path: Path, database: LatencyDatabase) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(UsageError, match="not a file that can be read twice"):
            database.import_file(pipe)
    finally:
        os.close(writer)


def test_parquet_that_is_cut_short_another_programs_or_newer(database: LatencyDatabase, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "some.parquet"
    with LatencyDatabase("sqlite://") as other:
        other.record([(stage(1), ok(stage(1)))], CPU, ENVIRONMENT)
        other.export(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UsageError, match="not a whole Parquet file"):
        database.import_file(path)
    path.write_bytes(whole)
    table = pq.read_table(path)
    newer = table.replace_schema_metadata({"iosfarm.measurements": "2"})
    negative = table.set_column(table.schema.get_field_index("samples"), "samples", pa.array([[-1.0]]))
    odd = table.set_column(table.schema.get_field_index("conditions"), "conditions", pa.array(["{"]))
    missing = table.drop_columns(["samples"])
    for changed, what in ((table.replace_schema_metadata({}), "no export"), (newer, "newer"), (missing, "samples")):
        pq.write_table(changed, path)
        with pytest.raises(UsageError, match=what):
            database.import_file(path)
    for changed in (negative, odd):
        pq.write_table(changed, path)
        report = database.import_file(path)
        assert (report.stored, report.rejected, report.named[0].line) == (0, 1, 1)


def test_an_export_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    with LatencyDatabase("sqlite://") as database:
        database.record([(stage(n), ok(stage(n))) for n in range(10)], CPU, ENVIRONMENT)

        def interrupt(done: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            database.export(path, report=interrupt)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_is_no_file_and_what_is_a_link(path: Path, tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.jsonl", tmp_path / "pipe"
    link.symlink_to(path)
    os.mkfifo(pipe)
    with LatencyDatabase("sqlite://") as database, ThreadPoolExecutor(1) as pool:
        database.record([(stage(7), ok(stage(7)))], CPU, ENVIRONMENT)
        database.export(link)
        read = pool.submit(pipe.read_text)
        database.export(pipe)
    assert link.is_symlink()
    assert pipe.is_fifo()
    assert path.read_text() == read.result(timeout=30)


samples_of = st.lists(st.floats(1e-9, 3600.0), min_size=1, max_size=20)
moments = st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
facts = st.dictionaries(
    words,
    st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | words,
    max_size=4,
)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    of = stage(draw(st.integers(0, 3)))
    status = draw(st.sampled_from(Status))
    return Measurement(
        of.key,
        status,
        tuple(draw(samples_of)) if status in (Status.OK, Status.QUARANTINED) else (),
        unroll=draw(st.integers(1, 1000)),
        rounds=draw(st.integers(0, 100)),
        reason="" if status is Status.OK else "why " + draw(words),
        worker=draw(words),
        attempt=draw(st.integers(1, 9)),
        measured_at=draw(moments),
        conditions=draw(facts),
    )


@settings(max_examples=12, deadline=None)
@given(items=st.lists(measurements(), max_size=12))
def test_whatever_is_recorded_comes_back_through_a_file(items: list[Measurement]) -> None:
    import tempfile

    by_key = {stage(n).key: stage(n) for n in range(4)}
    with (
        tempfile.TemporaryDirectory() as folder,
        LatencyDatabase("sqlite://") as first,
        LatencyDatabase("sqlite://") as second,
        LatencyDatabase("sqlite://") as third,
    ):
        first.record([(by_key[m.stage_key], m) for m in items], CPU, ENVIRONMENT)
        path = Path(folder) / "all.jsonl"
        count = first.export(path)
        report = second.import_file(path)
        assert (report.stored, report.rejected, report.complete) == (count, 0, True)
        third.merge(second)
        rows = [
            [
                (r.stage_key, r.status, r.reason, r.median, r.mad, r.p10, r.measured_at, r.worker)
                for r in d.query(order_by="measured_at")
            ]
            for d in (first, second, third)
        ]
        assert sorted(rows[0], key=repr) == sorted(rows[1], key=repr) == sorted(rows[2], key=repr)
        found = [d.lookup(by_key, CPU, ENVIRONMENT) for d in (first, third)]
        assert found[0].keys() == found[1].keys()


@given(samples=samples_of)
def test_stored_statistics_are_those_of_the_measurement(samples: list[float]) -> None:
    measurement = Measurement(stage(1).key, Status.OK, tuple(samples), measured_at=NOON)
    columns = encode(measurement, place_of(CPU, ENVIRONMENT))
    wanted = (measurement.median, measurement.mad, measurement.minimum, measurement.p90, len(samples))
    assert (columns.median, columns.mad, columns.min, columns.p90, columns.n) == wanted
    assert json.loads(columns.samples) == samples
