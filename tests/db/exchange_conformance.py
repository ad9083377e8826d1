"""Copies of every latency database, and what is taken from it. A subclass overrides the fixture `url`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from database_contents import GPU, OTHER, contents, fill
from database_examples import CPU, ENVIRONMENT, NOON, bad, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import LatencyDatabase, RunSummary, ScheduledStageRow
from iosfarm.ir.device import Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status


class ExchangeConformance(DatabaseFixtures):
    @pytest.fixture
    def filled(self) -> Iterator[LatencyDatabase]:
        with LatencyDatabase("sqlite://") as other:
            fill(other)
            yield other

    # From one database to another

    def test_a_merge_loses_nothing_and_is_idempotent(self, database: LatencyDatabase, filled: LatencyDatabase) -> None:
        report = database.merge(filled)
        assert (report.stored, report.known, report.rejected, report.complete) == (11, 0, 0, True)
        assert (report.runs, report.searches, report.schedules) == (1, 1, 1)
        assert contents(database) == contents(filled)
        again = database.merge(filled)
        assert (again.stored, again.known) == (0, 11)
        assert (again.runs, again.searches, again.schedules) == (0, 0, 0)
        assert contents(database) == contents(filled)

    def test_two_farms_have_the_same_after_merging_either_way(self, database: LatencyDatabase) -> None:
        with LatencyDatabase("sqlite://") as other:
            fill(other)
            # The same stage measured by both, differently, and one measurement that both have.
            shared = (stage(1), ok(stage(1), 7.0))
            database.record([shared, (stage(1), ok(stage(1), 8.0)), (stage(50), ok(stage(50)))], CPU, ENVIRONMENT)
            other.record([shared], CPU, ENVIRONMENT)
            database.merge(other)
            other.merge(database)
            assert contents(database) == contents(other)
            assert len(database.query(stage_key=stage(1).key)) == 5

    def test_export_and_import(self, database: LatencyDatabase, filled: LatencyDatabase, tmp_path: Path) -> None:
        path = tmp_path / "all.jsonl"
        assert filled.export(path) == 11
        report = database.import_file(path)
        assert (report.stored, report.rejected, report.complete) == (11, 0, True)
        assert contents(database) == contents(filled)
        assert database.import_file(path).known == 11
        back = tmp_path / "back.jsonl"
        database.export(back)
        with LatencyDatabase("sqlite://") as third:
            third.import_file(back)
            assert contents(third) == contents(filled)

    def test_export_of_a_part(self, database: LatencyDatabase, filled: LatencyDatabase, tmp_path: Path) -> None:
        assert filled.export(tmp_path / "part.jsonl", device="cpu", status="ok") == 6
        report = database.import_file(tmp_path / "part.jsonl")
        assert (report.stored, report.rejected, report.searches, report.schedules) == (6, 0, 0, 0)
        assert {row.status for row in database.query()} == {"ok"}

    def test_parquet(self, database: LatencyDatabase, filled: LatencyDatabase, tmp_path: Path) -> None:
        path = tmp_path / "all.parquet"
        assert filled.export(path) == 11
        report = database.import_file(path)
        assert (report.stored, report.rejected, report.complete) == (11, 0, True)
        assert contents(database)[0] == contents(filled)[0]
        assert database.import_file(path).known == 11

    def test_quarantine_travels(self, database: LatencyDatabase) -> None:
        with LatencyDatabase("sqlite://") as other:
            for each in (database, other):
                each.record([(stage(1), ok(stage(1)))], CPU, ENVIRONMENT)
            other.quarantine(CPU, NOON, "it lies")
            assert database.merge(other).quarantined == 1
            assert database.lookup([stage(1).key], CPU, ENVIRONMENT) == {}
            assert other.merge(database).quarantined == 0
            assert other.lookup([stage(1).key], CPU, ENVIRONMENT) == {}

    def test_a_search_that_ended_since_has_ended_after_merging(self, database: LatencyDatabase) -> None:
        with LatencyDatabase("sqlite://") as other:
            run = other.begin_run(["x"], ["cpu"])
            search = other.start_search("x", {}, run_id=run)
            database.merge(other)
            assert database.searches()[0].state == "running"
            other.finish_search(search, "finished", {"measured": 1})
            other.finish_run(run, "failed", RunSummary(measured=1))
            database.merge(other)
            assert [(s.state, s.counts) for s in database.searches()] == [("finished", {"measured": 1})]
            assert [(r.outcome, r.summary.measured) for r in database.runs()] == [("failed", 1)]

    # Pruning

    def test_prune_needs_a_condition(self, database: LatencyDatabase) -> None:
        with pytest.raises(UsageError, match="prune needs a condition"):
            database.prune(status=None)

    def test_prune_deletes_what_meets_all_conditions_and_no_schedule_rests_on(self, database: LatencyDatabase) -> None:
        fill(database)
        before = {row.id for row in database.query()}
        conditions: dict[str, Any] = {"status": "ok", "until": NOON + timedelta(minutes=4)}
        told = database.prune(dry_run=True, **conditions)
        assert {row.id for row in database.query()} == before
        report = database.prune(**conditions)
        assert (report.measurements, report.kept) == (told.measurements, told.kept) == (4, 1)
        assert report.stages == 1  # of the others there are failures, or the schedule's
        left = database.query(status="ok")
        assert {row.stage_key for row in left} == {stage(3).key, stage(5).key}
        assert len(before) - 4 == len(database.query())
        assert database.prune(**conditions).measurements == 0
        database.record([(stage(0), ok(stage(0)))], CPU, ENVIRONMENT)  # its stage is stored again
        assert list(database.lookup([stage(0).key], CPU, ENVIRONMENT)) == [stage(0).key]

    def test_prune_of_what_is_superseded_changes_no_answer(self, database: LatencyDatabase) -> None:
        chance = random.Random(3)
        stages = [stage(n) for n in range(4)]
        other = Environment(ENVIRONMENT.hard, {"driver": "2"})
        for n in range(60):
            s = chance.choice(stages)
            samples = [1.0 + chance.random() for _ in range(chance.randint(1, 3))]
            item = bad(s, Status.INFEASIBLE, minutes=n) if chance.random() < 0.1 else ok(s, *samples, minutes=n)
            database.record([(s, item)], CPU, chance.choice([ENVIRONMENT, other]))
        keys = [s.key for s in stages]
        before = [database.lookup(keys, CPU, e) for e in (ENVIRONMENT, other)]
        assert database.prune(superseded=True).measurements > 20
        assert [database.lookup(keys, CPU, e) for e in (ENVIRONMENT, other)] == before

    def test_the_room_of_what_was_pruned_can_be_given_back(self, database: LatencyDatabase) -> None:
        many = [stage(n) for n in range(3000)]
        database.record([(s, ok(s)) for s in many], CPU, ENVIRONMENT)
        last = stage(5000)
        database.record([(last, ok(last))], GPU, OTHER)
        size = database.stats().size
        assert database.prune(device="cpu").measurements == 3000
        assert database.shrink() > 0
        assert database.stats().size < size
        assert database.lookup([last.key], GPU, OTHER)
        assert database.shrink() == 0

    def test_prune_deletes_expired_leases(self, database: LatencyDatabase) -> None:
        database.claim_stages([stage(1).key], CPU, ENVIRONMENT, "dead", -1)
        database.claim_stages([stage(2).key], CPU, ENVIRONMENT, "alive", 600)
        assert database.prune(status="failed").leases == 1
        assert database.stats().leases == {"held": 1}

    # A read-only database beneath

    def test_overlay(self, database: LatencyDatabase, url: str, tmp_path: Path) -> None:
        database.record([(stage(1), ok(stage(1), 1.0))], CPU, ENVIRONMENT)
        (two,) = database.record([(stage(2), ok(stage(2), 2.0))], CPU, ENVIRONMENT)
        own = str(tmp_path / "own.db")
        keys = [stage(n).key for n in (1, 2, 3)]
        with LatencyDatabase(own, overlay=url) as upper:
            (one,) = upper.record([(stage(1), ok(stage(1), 5.0))], CPU, ENVIRONMENT)
            found = upper.lookup(keys, CPU, ENVIRONMENT)
            assert {k: (r.id, r.measurement.median) for k, r in found.items()} == {
                keys[0]: (one, 5.0),
                keys[1]: (-two, 2.0),
            }
            claims = upper.claim_stages(keys, CPU, ENVIRONMENT, "a", 60)
            assert claims.granted == {keys[2]}
            assert {k: r.id for k, r in claims.measured.items()} == {keys[0]: one, keys[1]: -two}
            assert upper.claim_stages(keys, CPU, ENVIRONMENT, "a", 60, known={keys[1]: -two}).granted == set(keys[1:])
            rows = upper.query(order_by="median")
            assert [row.median for row in rows] == [5.0, 2.0, 1.0]
            assert [row.median for row in upper.query(order_by="median", limit=1, descending=False)] == [1.0]
            assert [row.id < 0 for row in rows] == [False, True, True]
            stages = [ScheduledStageRow(0, 0, keys[1], "merge", 2.0, -two)]
            values: dict[str, Any] = {
                "search_id": None,
                "model": "m",
                "graph_hash": "g",
                "batch": 1,
                "dtype": "float32",
            }
            values |= {"predicted": 2.0, "measured": None, "lower_bound": None, "document": "{}"}
            upper.record_schedule(device=CPU, environment=ENVIRONMENT, stages=stages, **values)
            assert upper.schedules()[0].stages[0].measurement_id is None
        assert len(database.query()) == 2
        assert database.stats().leases == {}
