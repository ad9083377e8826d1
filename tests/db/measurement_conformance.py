"""Recording measurements, and looking them up. A subclass overrides the fixture `url`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from database_examples import CPU, ENVIRONMENT, NOON, SIM, bad, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import Batch, DatabaseError, LatencyDatabase
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Status


class MeasurementConformance(DatabaseFixtures):
    def test_comes_back_as_it_was_recorded(self, database: LatencyDatabase) -> None:
        s = stage(1)
        (number,) = database.record([(s, ok(s))], CPU, ENVIRONMENT)
        found = database.lookup([s.key, "unknown"], CPU, ENVIRONMENT)
        assert list(found) == [s.key]
        assert found[s.key].id == number
        assert found[s.key].measurement == ok(s)
        assert found[s.key].soft_differences == {}

    def test_ids_are_in_the_order_of_the_items(self, database: LatencyDatabase) -> None:
        stages = [stage(n) for n in (5, 3, 9, 1, 7)]
        numbers = database.record([(s, ok(s)) for s in stages], CPU, ENVIRONMENT)
        found = database.lookup([s.key for s in stages], CPU, ENVIRONMENT)
        assert [found[s.key].id for s in stages] == numbers

    def test_the_newest_of_equally_long_ones_counts(self, database: LatencyDatabase) -> None:
        s = stage(1)
        items = [ok(s, 2.0, minutes=5), ok(s, 1.0, minutes=1)]
        items += [bad(s, status, minutes=9) for status in (Status.FAILED, Status.TIMEOUT, Status.QUARANTINED)]
        for item in items:
            database.record([(s, item)], CPU, ENVIRONMENT)
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.samples == (2.0,)
        assert len(database.query()) == 5  # the older rows are all there

    def test_more_samples_count_more_than_newer_ones(self, database: LatencyDatabase) -> None:
        s = stage(1)
        for item in (ok(s, 1.0, 2.0, minutes=1), ok(s, 3.0, 4.0, 5.0, minutes=2), ok(s, 6.0, minutes=3)):
            database.record([(s, item)], CPU, ENVIRONMENT)
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.median == 4.0

    def test_the_newest_tells_whether_a_stage_is_infeasible(self, database: LatencyDatabase) -> None:
        s = stage(1)
        for minutes, item in enumerate((ok(s, 1.0, 2.0), bad(s, Status.INFEASIBLE), ok(s, 3.0))):
            database.record([(s, replace(item, measured_at=NOON + timedelta(minutes=minutes)))], CPU, ENVIRONMENT)
            found = database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement
            assert (found.status is Status.INFEASIBLE) == (minutes == 1)
        assert found.samples == (1.0, 2.0)

    def test_the_very_same_environment_counts_more_than_samples(self, database: LatencyDatabase) -> None:
        s, other = stage(1), Environment(ENVIRONMENT.hard, {"driver": "2.0"})
        database.record([(s, ok(s, 1.0, 2.0, 3.0, minutes=9))], CPU, ENVIRONMENT)
        database.record([(s, ok(s, 4.0))], CPU, other)
        assert database.lookup([s.key], CPU, other)[s.key].measurement.samples == (4.0,)
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.median == 2.0

    def test_of_equal_ones_the_last_recorded_counts(self, database: LatencyDatabase) -> None:
        s = stage(1)
        database.record([(s, ok(s, 1.0)), (s, ok(s, 2.0))], CPU, ENVIRONMENT)
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.samples == (2.0,)

    def test_a_batch_that_is_recorded_again_is_stored_once(self, database: LatencyDatabase) -> None:
        stages = [stage(n) for n in range(5)]
        items = [(s, ok(s)) for s in stages]
        numbers = database.record(items, CPU, ENVIRONMENT)
        assert database.record([items[3], items[1], items[3]], CPU, ENVIRONMENT) == [numbers[n] for n in (3, 1, 3)]
        fresh = [(s, ok(s, minutes=1e-6 / 60)) for s in stages]  # a microsecond later
        assert not set(database.record([*items, *fresh], CPU, ENVIRONMENT)[5:]) & set(numbers)
        assert len(database.query()) == 10

    def test_failures_are_no_answer(self, database: LatencyDatabase) -> None:
        s = stage(1)
        database.record([(s, bad(s))], CPU, ENVIRONMENT)
        assert database.lookup([s.key], CPU, ENVIRONMENT) == {}

    @pytest.mark.parametrize(
        "other", [replace(CPU, properties={"cores": 4}), replace(CPU, model="Other"), replace(CPU, kind="sim:x")]
    )
    def test_another_device_is_not_reused(self, database: LatencyDatabase, other: Device) -> None:
        s = stage(1)
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        assert database.lookup([s.key], other, ENVIRONMENT) == {}

    def test_another_instance_of_the_device_is_reused(self, database: LatencyDatabase) -> None:
        s, twin = stage(1), replace(CPU, instance={"host": "b"})
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        assert list(database.lookup([s.key], twin, ENVIRONMENT)) == [s.key]
        database.record([(s, ok(s))], twin, ENVIRONMENT)  # the same numbers of another device are another measurement
        (device,) = database.stats().devices
        assert device.instances == 2

    def test_hard_differences_forbid_reuse_and_soft_ones_are_told(self, database: LatencyDatabase) -> None:
        s = stage(1)
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        hard = Environment({**ENVIRONMENT.hard, "precision": "float16"}, ENVIRONMENT.soft)
        soft = Environment(ENVIRONMENT.hard, {"driver": "2.0", "os": "x"})
        assert database.lookup([s.key], CPU, hard) == {}
        found = database.lookup([s.key], CPU, soft)[s.key]
        assert found.soft_differences == {"driver": ("2.0", "1.0"), "os": ("x", None)}

    def test_looks_up_more_keys_than_a_statement_takes(self, database: LatencyDatabase) -> None:
        stages = [stage(n) for n in range(2500)]
        database.record([(s, ok(s)) for s in stages], CPU, ENVIRONMENT)
        keys = [f"{n:064x}" for n in range(40_000)] + [s.key for s in stages]
        found = database.lookup(iter(keys), CPU, ENVIRONMENT)
        assert found.keys() == {s.key for s in stages}

    def test_text_comes_back_whatever_it_holds(self, database: LatencyDatabase) -> None:
        texts = [
            "",
            "NULL",
            "null",
            '"',
            "\\",
            '\\"',
            "{a,b}",
            "a,b",
            " a ",
            "'; --",
            "line\nnext\ttab\r",
            "é 漢 🚜",
            "%s :x",
            "{",
        ]
        items = [(stage(n), replace(ok(stage(n)), worker=text, reason=text)) for n, text in enumerate(texts)]
        database.record(items, CPU, ENVIRONMENT)
        found = database.lookup([s.key for s, _ in items], CPU, ENVIRONMENT)
        assert [found[s.key].measurement for s, _ in items] == [item for _, item in items]

    def test_text_that_databases_refuse_does_not_lose_a_batch(self, database: LatencyDatabase) -> None:
        s = stage(1)
        strange = replace(bad(s, Status.INFEASIBLE), reason="segfault \0 \udce4 ü")
        database.record([(s, strange)], CPU, ENVIRONMENT)
        reason = database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.reason
        assert reason.startswith("segfault ")
        assert reason.endswith(" ü")

    def test_wrong_items_store_nothing(self, database: LatencyDatabase) -> None:
        s, t = stage(1), stage(2)
        wrong = [
            (t, ok(s)),
            (s, replace(ok(s), measured_at=ok(s).measured_at.replace(tzinfo=None))),
            (s, replace(ok(s), conditions={"clock": float("nan")})),
        ]
        for item in wrong:
            with pytest.raises(ValueError, match=s.key):
                database.record([(s, ok(s)), item], CPU, ENVIRONMENT)
        assert database.stats().measurements == 0

    def test_unknown_search_stores_nothing_and_keeps_what_was_there(self, database: LatencyDatabase) -> None:
        s, t = stage(1), stage(2)
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        with pytest.raises(DatabaseError, match="refers to one that is not there"):
            database.record([(t, ok(t))], CPU, ENVIRONMENT, search_id=99)
        assert database.stats().stages == 1
        assert [row.stage_key for row in database.query()] == [s.key]

    def test_nothing_to_record_or_look_up(self, database: LatencyDatabase) -> None:
        assert database.record([], CPU, ENVIRONMENT) == []
        assert database.lookup([], CPU, ENVIRONMENT) == {}
        assert database.stats().devices == ()

    def test_several_devices_are_recorded_at_once(self, database: LatencyDatabase) -> None:
        s, t, twin = stage(1), stage(2), replace(CPU, instance={"host": "b"})
        database.claim_stages([s.key, t.key], CPU, ENVIRONMENT, "a", 600)
        batches = [
            Batch([(s, ok(s, 1.0)), (t, bad(t))], CPU, ENVIRONMENT),
            Batch([], CPU, ENVIRONMENT),
            Batch([(t, ok(t, 2.0))], twin, ENVIRONMENT),
            Batch([(s, ok(s, 3.0))], SIM, ENVIRONMENT),
        ]
        numbers = database.record_all(batches, owner="a")
        assert [len(some) for some in numbers] == [2, 0, 1, 1]
        rows = {row.id: (row.stage_key, row.median) for row in database.query()}
        assert [rows[number] for some in numbers for number in some] == [
            (s.key, 1.0), (t.key, None), (t.key, 2.0), (s.key, 3.0)
        ]  # fmt: skip
        assert database.lease_owners() == []
        assert database.record_all(batches) == numbers
        wrong = Batch([(s, ok(t))], SIM, ENVIRONMENT)
        with pytest.raises(ValueError, match="with summary"):
            database.record_all([Batch([(t, ok(t, 4.0))], CPU, ENVIRONMENT), wrong])
        assert len(database.query()) == len(rows)
        assert database.record_all([]) == []
