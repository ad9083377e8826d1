"""Plans in every latency database. A subclass overrides the fixture `url`."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from pathlib import Path

import pytest
from database_contents import GPU, OTHER, PLANS_OF, contents, fill
from database_examples import NOON, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.ir.plan import LONGEST_KEY, Plan, PlanScope, plan_key

NEWER = PlanScope(GPU.model, {"sms": 132, "provider": "cudnn", "cudnn": "9.29.0"})
PLANS = [Plan("a", "all eng1", 1e-5), Plan("b", "none eng2", 2e-5)]


class PlanConformance(DatabaseFixtures):
    def test_plans_are_found_again_in_their_scope_alone(self, database: LatencyDatabase) -> None:
        assert database.plans(PLANS_OF) == []
        database.record_plans(PLANS_OF, PLANS)
        assert database.plans(PLANS_OF) == PLANS
        assert database.plans(NEWER) == []
        assert database.stats().plans == 2

    def test_a_newer_plan_replaces_an_older_one_and_no_other(self, database: LatencyDatabase) -> None:
        database.record_plans(PLANS_OF, PLANS, found_at=NOON)
        chosen_anew = Plan("a", "all eng3", 3e-5)
        database.record_plans(PLANS_OF, [chosen_anew], found_at=NOON + timedelta(seconds=1))
        database.record_plans(PLANS_OF, [Plan("b", "late", 1e-9)], found_at=NOON - timedelta(seconds=1))
        assert database.plans(PLANS_OF) == [chosen_anew, PLANS[1]]

    def test_the_last_of_equal_keys_counts(self, database: LatencyDatabase) -> None:
        database.record_plans(PLANS_OF, [PLANS[0], Plan("a", "last", 1.0)])
        assert database.plans(PLANS_OF) == [Plan("a", "last", 1.0)]
        database.record_plans(PLANS_OF, [])

    def test_merges_end_the_same_in_any_order(self, database: LatencyDatabase, tmp_path: Path) -> None:
        plans = [Plan("a", "one", 3.0), Plan("a", "two", 2.0), Plan("a", "three", 1.0)]
        times = [NOON, NOON + timedelta(seconds=1), NOON + timedelta(seconds=1)]
        sources = [LatencyDatabase("sqlite://") for _ in plans]
        for source, plan, time in zip(sources, plans, times, strict=True):
            source.record_plans(PLANS_OF, [plan], found_at=time)
        for order in permutations(sources):
            with LatencyDatabase("sqlite://") as other:
                first, *_ = [other.merge(source).plans for source in order]
                assert first == 1
                assert other.plans(PLANS_OF) == [plans[2]]
        for source in sources:
            database.merge(source)
            source.close()
        assert database.plans(PLANS_OF) == [plans[2]]

    def test_plans_are_exported_and_imported_once(self, database: LatencyDatabase, tmp_path: Path) -> None:
        path = tmp_path / "all.jsonl"
        with LatencyDatabase("sqlite://") as other:
            fill(other)
            assert other.plans(PLANS_OF)
            other.export(path)
            assert database.import_file(path).plans == other.stats().plans
            assert contents(database) == contents(other)
            assert database.import_file(path).plans == 0
            assert database.merge(other).plans == 0
            other.export(path, device=GPU.model)  # measurements alone
        assert '"type":"plan"' not in path.read_text()

    def test_plans_go_with_old_measurements(self, database: LatencyDatabase) -> None:
        database.record([(stage(1), ok(stage(1))), (stage(2), ok(stage(2)))], GPU, OTHER)
        other = PlanScope("Another GPU", {})
        database.record_plans(PLANS_OF, PLANS, found_at=NOON)
        database.record_plans(other, PLANS, found_at=NOON)
        assert database.prune(status="ok", dry_run=True).plans == 0
        assert database.prune(superseded=True, device=GPU.model).plans == 0
        assert database.prune(until=NOON - timedelta(days=1)).plans == 0
        assert database.prune(device=GPU.model, until=NOON, dry_run=True).plans == 2
        assert database.stats().plans == 4
        assert database.prune(device=GPU.model, until=NOON).plans == 2
        assert (database.plans(PLANS_OF), database.plans(other)) == ([], PLANS)

    def test_read_only_handles_read_plans(self, database: LatencyDatabase, url: str) -> None:
        database.record_plans(PLANS_OF, PLANS)
        with LatencyDatabase(url, readonly=True) as reader:
            assert reader.plans(PLANS_OF) == PLANS
            with pytest.raises(DatabaseError, match="opened read-only"):
                reader.record_plans(PLANS_OF, PLANS)

    def test_long_keys_and_names(self, database: LatencyDatabase) -> None:
        key = "\N{GREEK SMALL LETTER MU}" * (LONGEST_KEY // 2)
        plan = Plan(key, " ".join(map(str, range(5000))), 1e-4)
        database.record_plans(PLANS_OF, [plan, Plan(plan_key(["x"] * LONGEST_KEY), "x", 1.0)])
        assert plan in database.plans(PLANS_OF)
