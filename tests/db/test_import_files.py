"""Files that are cut short, or hard to read, or written while something fails; the process that reads large ones."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest
from database_examples import CPU, ENVIRONMENT, ok, stage
from export_examples import export_some, lines, write

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.db.exchange import reading
from iosfarm.ir.errors import UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return export_some(tmp_path / "some.jsonl")


@pytest.fixture
def database() -> Iterator[LatencyDatabase]:
    with LatencyDatabase("sqlite://") as database:
        yield database


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
