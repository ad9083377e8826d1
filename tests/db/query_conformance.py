"""Queries and statistics. A subclass overrides the fixture `url`."""

from __future__ import annotations

from typing import Any

import pytest
from database_examples import CPU, ENVIRONMENT, SIM, add_schedule, bad, conv, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import LatencyDatabase, ScheduledStageRow
from iosfarm.ir.device import Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status
from iosfarm.ir.summary import OperatorSummary


class QueryConformance(DatabaseFixtures):
    def test_conditions_on_an_operator_are_met_by_one_operator(self, database: LatencyDatabase) -> None:
        pair = stage(1, (conv(64, 96, (1, 1)), conv(32, 48, (3, 3))))
        line = stage(2, (conv(64, 48, (1, 7)), OperatorSummary("relu", 48, 48)))
        database.record([(s, ok(s)) for s in (pair, line)], CPU, ENVIRONMENT)

        def keys(**conditions: Any) -> set[str]:
            return {row.stage_key for row in database.query(**conditions)}

        assert keys(op="conv2d") == {pair.key, line.key}
        assert keys(op="relu") == {line.key}
        assert keys(in_channels=64, out_channels=48) == {line.key}
        assert keys(op="conv2d", in_channels=64, kernel=3) == set()
        assert keys(op="conv2d", kernel=(1, 7)) == {line.key}
        assert keys(kernel=(7, 1)) == set()
        assert keys(height=28, width=28, stride=1) == {pair.key, line.key}
        assert keys(stride=2) == set()
        (row,) = database.query(op="relu")
        assert row.operators == line.operators

    @pytest.mark.parametrize(
        "condition",
        [
            {"strategy": "merge"},
            {"dtype": "float16"},
            {"layout": "nhwc"},
            {"batch": 32},
            {"status": Status.FAILED},
            {"status": "failed"},
            {"simulated": True},
            {"device": "tesla v100"},
            {"device": "sim:V100"},
            {"device": SIM},
            {"device": SIM.key},
            {"environment": Environment({"runtime": "other"})},
            {"stage_key": stage(2).key},
            {"model": "squeezenet"},
        ],
    )
    def test_condition(self, database: LatencyDatabase, condition: dict[str, Any]) -> None:
        s, t = stage(1), stage(2, strategy="merge", dtype="float16", layout="nhwc", batch=32)
        search = database.start_search("squeezenet", {})
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        (number,) = database.record([(t, bad(t))], SIM, Environment({"runtime": "other"}), search_id=search)
        assert [row.id for row in database.query(**condition)] == [number]

    def test_model_finds_what_its_schedules_reuse(self, database: LatencyDatabase) -> None:
        s, t = stage(1), stage(2)
        database.record([(s, ok(s)), (t, ok(t))], CPU, ENVIRONMENT)
        add_schedule(database, "nasnet", [ScheduledStageRow(0, 0, s.key, "concurrent", 1e-3)])
        assert [row.stage_key for row in database.query(model="nasnet")] == [s.key]

    def test_rows_tell_everything(self, database: LatencyDatabase) -> None:
        s = stage(1)
        database.record([(s, ok(s, 1.0, 2.0, 4.0)), (s, bad(s, minutes=1))], SIM, ENVIRONMENT)
        failed, row = database.query()
        assert (row.median, row.mad, row.minimum, row.p90, row.n) == (2.0, 1.0, 1.0, 3.6, 3)
        assert (row.device, row.device_kind, row.simulated) == ("Tesla V100", "sim:v100", True)
        assert (row.flops, row.bytes_moved, row.groups, row.units) == (3_000_000_000, 5_000_000_000, 1, 1)
        assert (row.worker, row.attempt, row.measured_at) == ("worker-1", 2, ok(s).measured_at)
        assert row.environment_key == ENVIRONMENT.key
        assert (failed.median, failed.n, failed.status, failed.reason) == (None, 0, "failed", "it broke")

    def test_order_and_limit(self, database: LatencyDatabase) -> None:
        s = stage(1)
        items = [ok(s, 3.0), bad(s), ok(s, 1.0), ok(s, 2.0)]
        database.record([(s, item) for item in items], CPU, ENVIRONMENT)
        assert [r.median for r in database.query(order_by="median")] == [3.0, 2.0, 1.0, None]
        assert [r.median for r in database.query(order_by="median", descending=False)] == [1.0, 2.0, 3.0, None]
        assert [r.median for r in database.query(limit=2)] == [2.0, 1.0]
        assert database.query(limit=0) == []
        with pytest.raises(UsageError, match="cannot order by 'speed'; choose one of id, "):
            database.query(order_by="speed")
        with pytest.raises(UsageError, match="a limit of -1"):
            database.query(limit=-1)

    def test_statistics(self, database: LatencyDatabase) -> None:
        s, t = stage(1), stage(2)
        database.record([(s, ok(s)), (t, bad(t, minutes=2)), (s, ok(s, minutes=1))], CPU, ENVIRONMENT)
        database.record([(s, bad(s, Status.INFEASIBLE))], SIM, ENVIRONMENT)
        stats = database.stats()
        assert (stats.stages, stats.measurements, stats.environments) == (2, 4, 1)
        assert stats.by_status == {"failed": 1, "infeasible": 1, "ok": 2}
        assert stats.size > 0
        cpu, sim = stats.devices
        assert (cpu.model, cpu.simulated, cpu.stages, cpu.measurements, cpu.usable) == (CPU.model, False, 2, 3, 2)
        assert (cpu.first, cpu.last) == (ok(s).measured_at, bad(t, minutes=2).measured_at)
        assert (sim.model, sim.simulated, sim.usable) == (SIM.model, True, 1)
