"""What every latency database answers. A subclass overrides the fixture `url`."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from database_contents import GPU, OTHER, contents, fill
from database_examples import CPU, ENVIRONMENT, NOON, SIM, bad, conv, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status
from iosfarm.ir.summary import OperatorSummary

REFUSED = (
    "DELETE FROM measurement",
    "INSERT INTO stage_operator SELECT * FROM stage_operator RETURNING stage_id",
    "WITH gone AS (DELETE FROM lease RETURNING owner) SELECT * FROM gone",
    "SELECT 1; DROP TABLE measurement",
    "COMMIT",
    "PRAGMA query_only = OFF",
    "SET TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "ATTACH DATABASE '/tmp/iosfarm-attached.db' AS other",
    "VACUUM",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/iosfarm-copied'",
    "DO $$ BEGIN DELETE FROM measurement; END $$",
    "CREATE TEMP TABLE x AS SELECT 1",
    "SELECT load_extension('x')",
    "SELECT * INTO copied FROM measurement",
    "SELECT nextval('run_id_seq')",
    "SELECT nothing FROM nowhere",
    "SELECT ?",
    "SELECT :name",
    "SELEC 1",
    "-- nothing",
    "",
)
"""What is no query, on either database."""


class ProductConformance(DatabaseFixtures):
    # Queries

    @pytest.mark.parametrize(
        ("condition", "found"),
        [
            ({"channels": 64}, {1, 3}),
            ({"channels": (65, 256)}, {1, 2}),
            ({"in_channels": (None, 32)}, {2}),
            ({"out_channels": (100, None)}, {2}),
            ({"height": (28, 56)}, {1, 2, 3}),
            ({"width": 56}, {2}),
            ({"stride": (1, 1)}, {1, 2, 3}),
            ({"shape": (1, 64, 28, 28)}, {1}),
            ({"shape": (32, 64, 28, 28)}, {3}),
            ({"batch": (2, 64)}, {3}),
            ({"units": (2, None)}, {2, 3}),
            ({"groups": (2, 9)}, set()),
            ({"stage_key": stage(2).key[:6]}, {2}),
            ({"stage_key": stage(2).key.upper()}, {2}),
            ({"facts": {"driver": "535.*"}}, {3}),
            ({"facts": {"DRIVER": "535.*"}}, set()),
            ({"facts": {"torch": "2.13*", "precision": "float32"}}, {3}),
            ({"since": NOON + timedelta(minutes=2)}, {2, 3}),
            ({"until": NOON + timedelta(minutes=2)}, {1, 2}),
            ({"op": "conv2d", "batch": 32, "device": "cuda", "status": "ok", "channels": (1, 999)}, {3}),
            ({"device": "nothing"}, set()),
        ],
    )
    def test_conditions(self, database: LatencyDatabase, condition: dict[str, Any], found: set[int]) -> None:
        wide = stage(2, (conv(32, 128, (1, 1), 56), OperatorSummary("relu", 128, 128, 56, 56)))
        both = replace(stage(3, (conv(64, 64), OperatorSummary("add", 64, 64)), batch=32), units=2)
        database.record([(stage(1), ok(stage(1), minutes=1)), (wide, ok(wide, minutes=2))], CPU, ENVIRONMENT)
        database.record([(both, ok(both, minutes=3))], GPU, OTHER)
        for limit in (None, 10):
            rows = database.query(limit=limit, **condition)
            assert {row.stage_key for row in rows} == {stage(n).key for n in found}

    @pytest.mark.parametrize(
        ("condition", "what"),
        [
            ({"batch": (9, 2)}, "batch from 9 to 2: upside down"),
            ({"stage_key": "xyz"}, "no stage key: 'xyz'"),
            ({"stage_key": ""}, "no stage key"),
            ({"status": "good"}, "no status 'good'; choose one of ok, "),
            ({"since": NOON.replace(tzinfo=None)}, "no time zone"),
        ],
    )
    def test_conditions_that_cannot_be(self, database: LatencyDatabase, condition: dict[str, Any], what: str) -> None:
        with pytest.raises(UsageError, match=what):
            database.query(**condition)

    def test_many_rows_give_the_same_answer_either_way(self, database: LatencyDatabase) -> None:
        """Whether stages are looked for first, or measurements gone through in order: with rare and common ones."""
        chance = random.Random(1)
        items = []
        for n in range(2000):
            rare = n % 400 == 7
            s = stage(n, (conv(7 if rare else 64, 96),), batch=chance.choice([1, 8]))
            items.append((s, ok(s, chance.random(), minutes=chance.randrange(10_000))))
        database.record(items, CPU, ENVIRONMENT)
        for conditions in ({"in_channels": 7}, {"in_channels": 64}, {"in_channels": 7, "batch": 8}, {"batch": 1}):
            for order in ("median", "measured_at", "batch"):
                whole = database.query(order_by=order, **conditions)  # type: ignore[arg-type]
                assert len(whole) > 0
                first = database.query(order_by=order, limit=5, **conditions)  # type: ignore[arg-type]
                assert first == whole[:5]

    def test_percentiles_and_environment_of_a_row(self, database: LatencyDatabase) -> None:
        database.record([(stage(1), ok(stage(1), 1.0, 2.0, 3.0))], GPU, OTHER)
        (row,) = database.query()
        assert (row.p10, row.median, row.p90) == (pytest.approx(1.2), 2.0, pytest.approx(2.8))
        assert row.environment == {**OTHER.hard, **OTHER.soft}

    # Users' own SQL

    def test_own_sql_reads(self, database: LatencyDatabase) -> None:
        fill(database)
        result = database.sql("SELECT device, count(*) AS n FROM latency GROUP BY device ORDER BY device;")
        assert (result.columns, result.complete) == (("device", "n"), True)
        assert result.rows == (("Example CPU", 10), ("Example GPU", 1))
        ten = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 10) SELECT x FROM c"
        assert database.sql(ten, limit=3).rows == ((1,), (2,), (3,))
        assert not database.sql(ten, limit=3).complete
        (operators,) = database.sql("SELECT operators FROM latency LIMIT 1").rows[0]
        assert operators == "conv2d 3x3 64→96"

    def test_own_sql_that_does_anything_else_is_refused(self, database: LatencyDatabase) -> None:
        fill(database)
        before = contents(database)
        for statement in REFUSED:
            with pytest.raises(UsageError):
                database.sql(statement)
        assert contents(database) == before
        assert database.sql("SELECT 1").rows == ((1,),)
        database.record([(stage(9), ok(stage(9)))], CPU, ENVIRONMENT)

    def test_own_sql_that_takes_too_long(self, database: LatencyDatabase) -> None:
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
        with pytest.raises(UsageError, match=r"took longer than 0.05 s; ask for less"):
            database.sql(endless, timeout=0.05)

    # Devices

    def test_compare(self, database: LatencyDatabase) -> None:
        for n in range(8):
            big = n >= 4
            s = stage(n, (conv(kernel=(3, 3) if big else (1, 1)),))
            database.record([(s, ok(s, 1e-3))], CPU, ENVIRONMENT)
            database.record([(s, ok(s, 1e-3)), (s, ok(s, *[5e-4 if big else 2e-3] * 3))], GPU, OTHER)
        database.record([(stage(20), ok(stage(20)))], CPU, ENVIRONMENT)
        found = database.compare("cpu", GPU)
        assert (found.first, found.second) == ("Example CPU", "Example GPU")
        assert [(c.operators, c.stages, c.median) for c in found.classes] == [
            ("conv2d 1x1", 4, pytest.approx(2.0)),
            ("conv2d 3x3", 4, pytest.approx(0.5)),
        ]
        assert found.all is not None
        assert (found.all.stages, found.all.p10, found.all.p90) == (8, pytest.approx(0.5), pytest.approx(2.0))
        back = database.compare("cuda", "cpu")
        assert back.classes[0].median == pytest.approx(0.5)

    def test_devices_that_cannot_be_compared(self, database: LatencyDatabase) -> None:
        fill(database)
        with pytest.raises(DatabaseError, match="no device 'tpu'; `iosfarm db stats` lists"):
            database.compare("cpu", "tpu")
        with pytest.raises(UsageError, match="cannot be compared with itself"):
            database.compare("cpu", CPU)
        database.record([(stage(1), ok(stage(1)))], replace(CPU, properties={"cores": 4}), ENVIRONMENT)
        with pytest.raises(DatabaseError, match=r"2 kinds of device are called 'cpu': .*; name one's key"):
            database.compare("cpu", "cuda")
        assert database.compare(CPU.key, "cuda").all is None  # the only stage in common is quarantined

    def test_transferred_latencies_are_intervals_and_no_measurements(self, database: LatencyDatabase) -> None:
        chance = random.Random(5)
        stages = [stage(n) for n in range(240)]
        source = [1e-4 * (1 + n) for n in range(240)]
        truth = [0.5 * seconds * math.exp(chance.gauss(0, 0.05)) for seconds in source]
        database.record([(s, ok(s, seconds)) for s, seconds in zip(stages, source, strict=True)], CPU, ENVIRONMENT)
        database.record([(stages[n], ok(stages[n], truth[n])) for n in range(1, 240, 2)], GPU, OTHER)
        missing = {stage(n).key: n for n in range(0, 240, 2)}
        assert database.lookup(missing, GPU, OTHER) == {}
        found = database.transferred([*missing, "f" * 64], GPU, OTHER, confidence=0.9)
        assert found.keys() == missing.keys()
        held = sum(found[key].low <= truth[n] <= found[key].high for key, n in missing.items())
        assert 0.8 < held / len(missing) < 0.99
        one = found[stage(2).key]
        assert (one.device, one.simulated, one.pairs, one.operators) == ("Example CPU", False, 120, "conv2d 3x3")
        assert one.seconds == pytest.approx(truth[2], rel=0.25)
        assert database.lookup(missing, GPU, OTHER) == {}
        assert database.claim_stages(missing, GPU, OTHER, "a", 60).measured == {}
        assert len(database.transferred(missing, GPU, OTHER, confidence=0.999)) == 0  # too few pairs for that

    def test_nothing_is_transferred_from_models_to_devices_or_from_too_little(self, database: LatencyDatabase) -> None:
        stages = [stage(n) for n in range(60)]
        database.record([(s, ok(s, 1e-3)) for s in stages], SIM, ENVIRONMENT)
        database.record([(s, ok(s, 1e-3)) for s in stages[:50]], GPU, OTHER)
        database.record([(s, ok(s, 1e-3)) for s in (*stages[:19], stages[55])], CPU, ENVIRONMENT)
        assert database.transferred([stages[55].key], GPU, OTHER) == {}
        database.record([(stages[20], ok(stages[20], 2e-3))], CPU, ENVIRONMENT)
        assert database.transferred([stages[55].key], GPU, OTHER)[stages[55].key].device == "Example CPU"

    def test_coverage(self, database: LatencyDatabase) -> None:
        stages = [stage(n) for n in range(40)]
        items = [(s, ok(s, 0.01, 0.01, minutes=n / 60)) for n, s in enumerate(stages[:20])]
        items += [(stages[20], bad(stages[20], Status.INFEASIBLE)), (stages[21], bad(stages[21]))]
        database.record(items, CPU, ENVIRONMENT)
        found = database.coverage([s.key for s in stages], CPU, ENVIRONMENT)
        assert (found.stages, found.measured, found.infeasible, found.failed) == (40, 20, 1, 1)
        assert (found.missing, found.transferred) == (19, 0)
        assert found.forecast is not None
        assert found.forecast.expected == pytest.approx(19 * 1.0, rel=0.01)  # one a second, whatever it takes
        database.record([(s, ok(s, 0.02)) for s in stages], GPU, OTHER)
        found = database.coverage([s.key for s in stages], CPU, ENVIRONMENT)
        assert found.transferred == 19
        assert found.forecast is not None
        assert 0 < found.forecast.low <= found.forecast.expected <= found.forecast.high
        nothing = database.coverage([s.key for s in stages], SIM, ENVIRONMENT)
        assert (nothing.missing, nothing.forecast) == (40, None)

    def test_a_device_by_name_and_a_sample_of_what_it_measured(self, database: LatencyDatabase) -> None:
        stages = [stage(n) for n in range(30)]
        database.record([(s, ok(s)) for s in stages] + [(stage(50), bad(stage(50)))], GPU, OTHER)
        database.record([(stage(60), ok(stage(60)))], CPU, ENVIRONMENT)
        known = database.device("example gpu")
        assert (known.device, known.environment, known.layout) == (GPU, OTHER, "nchw")
        chosen = database.sample(GPU, OTHER, 10, seed=1)
        assert len({canonical for canonical, _ in chosen}) == 10
        assert {canonical for canonical, _ in chosen} <= {s.canonical for s in stages}
        assert all(recorded.measurement.ok for _, recorded in chosen)
        assert database.sample(GPU, OTHER, 10, seed=1) == chosen
        assert database.sample(GPU, OTHER, 10, seed=2) != chosen
        assert len(database.sample(GPU, OTHER, 99)) == 30
        assert database.sample(SIM, OTHER, 5) == []
