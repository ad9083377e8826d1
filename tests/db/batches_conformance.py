"""Imports that are stored in several transactions, where the database can at once. A subclass overrides `url`."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from database_contents import contents
from database_examples import CPU, ENVIRONMENT, NOON, bad, ok, stage
from database_fixtures import DatabaseFixtures
from sqlalchemy import delete

from iosfarm.db import DatabaseError, LatencyDatabase, tables
from iosfarm.db.connection.dialect import WRITING, Writing
from iosfarm.db.exchange import storing


class BatchesConformance(DatabaseFixtures):
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, writing in WRITING.items():
            monkeypatch.setitem(WRITING, name, Writing(writing.connections, 7))

    @pytest.fixture
    def lines(self, tmp_path: Path) -> list[dict[str, Any]]:
        """An export of 120 measurements of 30 stages, some of them failed."""
        path = tmp_path / "source.jsonl"
        with LatencyDatabase("sqlite://") as source:
            stages = [stage(n) for n in range(30)]
            items = [(s, ok(s, 1.0 + n, minutes=n)) for n in range(3) for s in stages]
            source.record([*items, *((s, bad(s, minutes=9)) for s in stages)], CPU, ENVIRONMENT)
            source.export(path)
        return [json.loads(line) for line in path.read_text().splitlines()]

    @pytest.mark.parametrize("seed", range(3))
    def test_the_same_measurement_in_several_batches(
        self, database: LatencyDatabase, lines: list[dict[str, Any]], tmp_path: Path, seed: int
    ) -> None:
        """Each comes three times, in any order, and one in four is not to be believed any more in one of them."""
        chance = random.Random(seed)
        head, stages = lines[:3], [line for line in lines if line["type"] == "stage"]
        measured = [line for line in lines if line["type"] == "measurement"] * 3
        doubted = {line["measured_at"] + line["stage"] for line in measured if chance.random() < 0.25}
        for line in measured[:120]:
            if line["status"] == "ok" and line["measured_at"] + line["stage"] in doubted:
                measured[chance.choice([120, 240]) + measured.index(line)] = {
                    **line,
                    "status": "quarantined",
                    "reason": "it lies",
                }
        chance.shuffle(measured)
        content = [*head, *stages, *measured]
        path = tmp_path / "shuffled.jsonl"
        path.write_text("\n".join(map(json.dumps, [*content, {"type": "end", "lines": len(content)}])))
        report = database.import_file(path)
        assert (report.stored, report.rejected, report.complete) == (120, 0, True)
        wrong = {row.measured_at.isoformat() + row.stage_key for row in database.query(status="quarantined")}
        assert wrong == {key for key in doubted if key.startswith(tuple(_moments(3)))}
        with LatencyDatabase("sqlite://") as plain:
            for line in content[3 + len(stages) :]:
                alone = [*head, *stages, line]
                path.write_text("\n".join(map(json.dumps, [*alone, {"type": "end", "lines": len(alone)}])))
                plain.import_file(path)
            assert contents(database) == contents(plain)

    def test_a_stage_whose_measurements_come_in_later_batches(
        self, database: LatencyDatabase, lines: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        (first,) = [line for line in lines if line["type"] == "stage" and line["key"] == stage(0).key]
        measured = [line for line in lines if line["type"] == "measurement" and line["stage"] == stage(0).key]
        many = [{**measured[0], "attempt": n + 1} for n in range(40)]
        path = tmp_path / "one.jsonl"
        content = [*lines[:3], first, *many]
        path.write_text("\n".join(map(json.dumps, [*content, {"type": "end", "lines": len(content)}])))
        seen: list[int] = []
        report = database.import_file(path, report=lambda told: seen.append(told.stored))
        assert (report.stored, report.rejected) == (40, 0)
        assert seen == [7, 14, 21, 28, 35, 40]

    def test_the_first_batch_that_fails_ends_it_and_the_rest_can_follow(
        self,
        database: LatencyDatabase,
        lines: list[dict[str, Any]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        real, calls = storing.insert_measurements, iter(range(100))

        def third_fails(*arguments: Any) -> int:
            if next(calls) == 2:
                raise DatabaseError("the third one")
            return real(*arguments)

        monkeypatch.setattr(storing, "insert_measurements", third_fails)
        with pytest.raises(DatabaseError, match="the third one"):
            database.import_file(tmp_path / "source.jsonl")
        monkeypatch.setattr(storing, "insert_measurements", real)
        database.import_file(tmp_path / "source.jsonl")
        assert len(database.query()) == 120

    def test_a_stage_that_was_pruned_since_it_was_looked_up(
        self, database: LatencyDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
    ) -> None:
        """As far as another connection can: SQLite lets nobody write meanwhile."""
        database.import_file(tmp_path / "source.jsonl")
        with database._transaction(write=True) as connection:
            connection.execute(delete(tables.measurement))
        real, first, pruned = storing.insert_measurements, Lock(), []

        def prune_first(connection: Any, rows: Any) -> int:
            if connection.dialect.name != "sqlite" and first.acquire(blocking=False):
                with LatencyDatabase(str(database._location.url)) as other, other._transaction(write=True) as elsewhere:
                    some = [row[0] for row in rows]
                    elsewhere.execute(delete(tables.stage_operator).where(tables.stage_operator.c.stage_id.in_(some)))
                    pruned.append(elsewhere.execute(delete(tables.stage).where(tables.stage.c.id.in_(some))).rowcount)
            return real(connection, rows)

        monkeypatch.setattr(storing, "insert_measurements", prune_first)
        assert database.import_file(tmp_path / "source.jsonl").stored == 120
        assert all(pruned)


def _moments(count: int) -> list[str]:
    return [(NOON + timedelta(minutes=n)).isoformat() for n in range(count)]
