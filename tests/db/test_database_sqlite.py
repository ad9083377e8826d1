"""The latency database in SQLite: the common contract, and what only a file can do."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batches_conformance import BatchesConformance
from database_conformance import LatencyDatabaseConformance
from database_examples import CPU, ENVIRONMENT, ok, stage
from exchange_conformance import ExchangeConformance
from product_conformance import ProductConformance
from sqlalchemy import event

from iosfarm.db import DatabaseError, LatencyDatabase, default_path
from iosfarm.db.connection import schema


class TestSqlite(LatencyDatabaseConformance, ProductConformance, ExchangeConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'latency.db'}"


class TestSqliteImports(BatchesConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'latency.db'}"


def test_default_is_in_the_data_directory_and_the_variable_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with LatencyDatabase() as database:
        assert database.name == str(tmp_path / "data" / "iosfarm" / "latency.db") == str(default_path())
    assert default_path().exists()
    monkeypatch.setenv("IOSFARM_DB", str(tmp_path / "other.db"))
    with LatencyDatabase() as database:
        assert database.name == str(tmp_path / "other.db")


@pytest.mark.parametrize("name", ["100% ü?#&.db", "a b.db"])
def test_any_file_name_works_as_a_plain_path(tmp_path: Path, name: str) -> None:
    for readonly in (False, True):
        with LatencyDatabase(str(tmp_path / name), readonly=readonly) as database:
            assert database.schema_version == schema.HEAD
    assert name in os.listdir(tmp_path)


def test_pickled_handle_means_the_same_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with LatencyDatabase("relative.db", timeout=3) as database:
        text = pickle.dumps(database)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pickle.loads(text) as copy:
        assert (copy.name, copy.timeout, copy.readonly) == (str(tmp_path / "relative.db"), 3, False)


def test_database_in_memory(tmp_path: Path) -> None:
    s = stage(1)
    with LatencyDatabase("sqlite://") as database, LatencyDatabase(":memory:") as other:
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        assert list(database.lookup([s.key], CPU, ENVIRONMENT)) == [s.key]
        assert other.stats().measurements == 0
        with pytest.raises(DatabaseError, match="in memory cannot be sent"):
            pickle.dumps(database)


def test_any_sql_tool_can_read_the_file(tmp_path: Path) -> None:
    s = stage(1)
    with LatencyDatabase(str(tmp_path / "latency.db")) as database:
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
    connection = sqlite3.connect(tmp_path / "latency.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    samples, median, measured_at = connection.execute("SELECT samples, median, measured_at FROM measurement").fetchone()
    assert tuple(json.loads(samples)) == ok(s).samples
    assert median == ok(s).median
    assert measured_at.startswith("2024-05-01 12:00:00")
    connection.close()


def test_queries_are_planned_as_for_a_large_database(tmp_path: Path) -> None:
    """A plan is chosen when there are no rows yet, and must be right when there are millions."""
    s, plans = stage(1), []
    with LatencyDatabase(str(tmp_path / "latency.db")) as database:
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        assert database._engine is not None
        connection = sqlite3.connect(tmp_path / "latency.db")
        told = {row[0] for row in connection.execute("SELECT idx FROM sqlite_stat1")}
        assert told <= {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}

        @event.listens_for(database._engine, "before_cursor_execute")
        def explain(_: object, __: object, statement: str, values: tuple[object, ...], *___: object) -> None:
            if "FROM measurement" in statement or "JOIN measurement" in statement:
                rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
                plans.append(" ".join(row[3] for row in rows))

        def plan_of(work: Callable[[], object]) -> str:
            plans.clear()
            work()
            return " ".join(plans)

        by_stage = "ix_measurement_stage_id_device_id_environment_id (stage_id=?"
        assert by_stage in plan_of(lambda: database.lookup([s.key], CPU, ENVIRONMENT))
        assert by_stage in plan_of(lambda: database.query(in_channels=7))
        for index, conditions in (
            ("ix_measurement_device_id_measured_at", {"device": "cpu"}),
            ("ix_measurement_wrong (status=?", {"status": "failed"}),
            ("ix_measurement_median", {"order_by": "median"}),
            ("ix_measurement_measured_at", {}),
        ):
            assert index in plan_of(lambda wanted=conditions: database.query(limit=3, **wanted))  # type: ignore[misc]
        assert "SCAN schedule_stage" not in plan_of(lambda: database.prune(status="ok", dry_run=True))
        connection.close()


def test_readers_and_a_writer_do_not_wait_for_each_other(tmp_path: Path) -> None:
    s, url = stage(1), str(tmp_path / "latency.db")
    with LatencyDatabase(url, timeout=0.2) as database:
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        writer = sqlite3.connect(url, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        assert list(database.lookup([s.key], CPU, ENVIRONMENT)) == [s.key]
        writer.execute("ROLLBACK")
        reader = sqlite3.connect(url, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM measurement").fetchall()
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        reader.close()
        writer.close()


RECORD_UNTIL_KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from database_examples import CPU, ENVIRONMENT, ok, stage
from exchange_conformance import ExchangeConformance
from product_conformance import ProductConformance
from sqlalchemy import event
from iosfarm.db import LatencyDatabase
database = LatencyDatabase(sys.argv[1])
for n in range(1_000_000):
    database.record([(stage(n), ok(stage(n)))], CPU, ENVIRONMENT)
    print(n, flush=True)
"""


def test_killed_process_loses_nothing_that_record_returned(tmp_path: Path) -> None:
    url = str(tmp_path / "latency.db")
    arguments = [sys.executable, "-c", RECORD_UNTIL_KILLED, url, str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    told = [stage(int(line)).key for line in lines if line.endswith("\n")]
    with LatencyDatabase(url) as database:
        assert database.lookup(told, CPU, ENVIRONMENT).keys() == set(told)
