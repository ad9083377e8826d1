"""What every latency database does, whatever it is kept in. A subclass overrides the fixture `url`.

(Not called `conformance`: test folders are no packages, and the runtimes' suite has that name.)
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from database_contents import GPU, OTHER
from database_examples import CPU, ENVIRONMENT, NOON, SIM, bad, conv, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import Claims, DatabaseError, LatencyDatabase, RunSummary, ScheduledStageRow, SearchState
from iosfarm.db.quarantine import ADRIFT
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status
from iosfarm.ir.summary import OperatorSummary


def keys(*numbers: int) -> frozenset[str]:
    return frozenset(stage(n).key for n in numbers)


def claim_and_record(url: str, owner: str) -> list[int]:
    """Numbers of the stages that one of several drivers measured; all of them want all stages, in any order."""
    numbers = {stage(n).key: n for n in range(90)}
    waiting, mine = set(numbers), []
    order = random.Random(owner)
    with LatencyDatabase(url) as database:
        while waiting:
            wanted = order.sample(sorted(waiting), min(7, len(waiting)))
            claims = database.claim_stages(wanted, CPU, ENVIRONMENT, owner, 600)
            measured = [stage(numbers[key]) for key in claims.granted]
            database.record([(s, replace(ok(s), worker=owner)) for s in measured], CPU, ENVIRONMENT, owner=owner)
            mine += [numbers[key] for key in claims.granted]
            waiting -= claims.granted | claims.measured.keys()
    return mine


def record_shuffled(url: str, seed: int) -> int:
    stages = [stage(n) for n in range(60)]
    random.Random(seed).shuffle(stages)
    with LatencyDatabase(url) as database:
        for start in range(0, 60, 20):
            items = [(s, replace(ok(s), attempt=seed)) for s in stages[start : start + 20]]
            database.record(items, CPU, ENVIRONMENT)
    return len(stages)


def in_processes(function: Any, url: str, arguments: list[Any]) -> list[Any]:
    """Spawned, not forked: a fresh process opens the database as a worker's driver does."""
    with ProcessPoolExecutor(len(arguments), multiprocessing.get_context("spawn")) as pool:
        return [f.result(timeout=120) for f in [pool.submit(function, url, a) for a in arguments]]


class LatencyDatabaseConformance(DatabaseFixtures):
    # Measurements

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

    # Queries

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
        self.add_schedule(database, "nasnet", [ScheduledStageRow(0, 0, s.key, "concurrent", 1e-3)])
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

    # Searches and schedules

    def test_search(self, database: LatencyDatabase) -> None:
        number = database.start_search("squeezenet", {"gap": 0.01, "strategies": ["merge"]})
        (running,) = database.searches()
        assert (running.id, running.state, running.finished_at) == (number, SearchState.RUNNING, None)
        database.finish_search(number, "interrupted", {"measured": 7})
        (ended,) = database.searches(model="squeezenet")
        assert (ended.state, ended.counts) == (SearchState.INTERRUPTED, {"measured": 7})
        assert ended.settings == {"gap": 0.01, "strategies": ["merge"]}
        assert ended.finished_at is not None
        assert ended.finished_at >= ended.started_at
        assert database.searches(model="other") == []

    def test_search_ends_once(self, database: LatencyDatabase) -> None:
        number = database.start_search("squeezenet", {})
        for state in ("running", "asleep"):
            with pytest.raises(ValueError, match=state):
                database.finish_search(number, state, {})
        database.finish_search(number, SearchState.FINISHED, {"measured": 1})
        with pytest.raises(DatabaseError, match=f"search {number} is finished already"):
            database.finish_search(number, SearchState.FAILED, {})
        with pytest.raises(DatabaseError, match="there is no search 99"):
            database.finish_search(99, SearchState.FAILED, {})
        assert database.searches()[0].counts == {"measured": 1}

    def add_schedule(self, database: LatencyDatabase, model: str, stages: list[ScheduledStageRow], **k: Any) -> int:
        values: dict[str, Any] = {"search_id": None, "graph_hash": "abc", "batch": 1, "dtype": "float32", "device": CPU}
        values |= {"environment": ENVIRONMENT, "predicted": 2e-3, "measured": None, "lower_bound": 1e-3}
        return database.record_schedule(**{**values, "document": "{}", **k}, model=model, stages=stages)

    def test_schedules(self, database: LatencyDatabase) -> None:
        s = stage(1)
        (number,) = database.record([(s, ok(s))], CPU, ENVIRONMENT)
        stages = [
            ScheduledStageRow(0, 0, s.key, "concurrent", 1e-3, number),
            ScheduledStageRow(1, 2, stage(2).key, "merge", 1e-3),
        ]
        first = self.add_schedule(database, "nasnet", stages, document='{"a":1}')
        second = self.add_schedule(database, "nasnet", [], device=SIM, batch=32, measured=3e-3)
        newest, oldest = database.schedules()
        assert (newest.id, newest.simulated, newest.device, newest.measured) == (second, True, "Tesla V100", 3e-3)
        assert (oldest.id, oldest.simulated, oldest.device_kind) == (first, False, "cpu")
        assert (oldest.document, oldest.stages, oldest.measured) == ('{"a":1}', tuple(stages), None)
        assert [x.id for x in database.schedules(simulated=False)] == [first]
        assert [x.id for x in database.schedules(device="sim:v100")] == [second]
        assert [x.id for x in database.schedules(model="nasnet", batch=32, dtype="float32")] == [second]
        assert [x.id for x in database.schedules(limit=1)] == [second]
        assert database.schedules(graph_hash="other") == []

    def test_schedule_with_an_unknown_measurement_is_not_stored(self, database: LatencyDatabase) -> None:
        with pytest.raises(DatabaseError):
            self.add_schedule(database, "nasnet", [ScheduledStageRow(0, 0, stage(1).key, "merge", 1.0, 99)])
        assert database.schedules() == []

    # Leases

    def claim(self, database: LatencyDatabase, owner: str, *numbers: int, seconds: float = 600, **known: Any) -> Claims:
        keys = [stage(n).key for n in numbers]
        return database.claim_stages(keys, CPU, ENVIRONMENT, owner, seconds, **known)

    def test_a_stage_is_granted_to_one_owner(self, database: LatencyDatabase) -> None:
        first = self.claim(database, "a", 1, 2)
        assert first == Claims(keys(1, 2), frozenset(), {})
        assert self.claim(database, "b", 2, 3) == Claims(keys(3), keys(2), {})
        assert self.claim(database, "a", 1, 2, 3) == Claims(keys(1, 2), keys(3), {})
        assert database.stats().leases == {"held": 3}
        assert self.claim(database, "a") == Claims(frozenset(), frozenset(), {})

    def test_leases_are_for_what_a_measurement_can_be_reused_for(self, database: LatencyDatabase) -> None:
        hard = Environment({**ENVIRONMENT.hard, "precision": "float16"}, ENVIRONMENT.soft)
        soft = Environment(ENVIRONMENT.hard, {"driver": "2.0"})
        twin = replace(CPU, instance={"host": "b"})
        self.claim(database, "a", 1)
        for device, environment, granted in ((SIM, ENVIRONMENT, 1), (CPU, hard, 1), (twin, soft, 0)):
            claims = database.claim_stages(keys(1), device, environment, "b", 600)
            assert (len(claims.granted), len(claims.held)) == (granted, 1 - granted)

    def test_an_expired_lease_goes_to_the_next(self, database: LatencyDatabase) -> None:
        self.claim(database, "late", 1, 2, seconds=-1)  # expired at once: nothing has to wait
        assert database.stats().leases == {"expired": 2}
        assert self.claim(database, "next", 1).granted == keys(1)
        assert database.heartbeat("late", 600) == 1
        assert self.claim(database, "next", 2).held == keys(2)
        assert database.release("late") == 1
        assert database.stats().leases == {"held": 1}

    def test_released_stages_are_free_again(self, database: LatencyDatabase) -> None:
        self.claim(database, "a", 1, 2, 3)
        assert database.release_stages(keys(1, 2, 9), CPU, ENVIRONMENT, "b") == 0
        assert database.release_stages(keys(1, 2, 9), CPU, ENVIRONMENT, "a") == 2
        assert self.claim(database, "b", 1, 2, 3) == Claims(keys(1, 2), keys(3), {})
        assert database.release("a") == 1
        assert database.release("a") == 0

    def test_recording_ends_the_owners_leases(self, database: LatencyDatabase) -> None:
        self.claim(database, "a", 1, 2, 3)
        database.record([(stage(1), ok(stage(1))), (stage(2), bad(stage(2)))], CPU, ENVIRONMENT, owner="a")
        claims = self.claim(database, "b", 1, 2, 3)
        assert (claims.granted, claims.held) == (keys(2), keys(3))  # a failure is no answer
        assert claims.measured[stage(1).key].measurement == ok(stage(1))
        assert database.stats().leases == {"held": 2}
        database.record([(stage(3), ok(stage(3)))], CPU, ENVIRONMENT, owner="b")
        assert database.heartbeat("a", 600) == 1  # what others record ends no lease of ours

    def test_what_is_measured_already_is_told_instead_of_granted(self, database: LatencyDatabase) -> None:
        s = stage(1)
        (first,) = database.record([(s, ok(s))], CPU, ENVIRONMENT)
        claims = self.claim(database, "a", 1, 2)
        assert (claims.granted, claims.measured[s.key].id) == (keys(2), first)
        assert self.claim(database, "a", 1, known={s.key: first}).granted == keys(1)
        (second,) = database.record([(s, ok(s, 1.0, minutes=1))], CPU, ENVIRONMENT)
        # Held by another, and yet measured since.
        assert self.claim(database, "b", 1, known={s.key: first}).measured[s.key].id == second
        assert self.claim(database, "b", 1, known={s.key: second}).held == keys(1)

    def test_processes_share_the_work_and_measure_each_stage_once(self, database: LatencyDatabase, url: str) -> None:
        measured = in_processes(claim_and_record, url, ["a", "b", "c"])
        assert Counter(n for numbers in measured for n in numbers) == Counter(range(90))
        stats = database.stats()
        assert (stats.measurements, stats.stages, stats.leases) == (90, 90, {})

    # Runs

    def test_run(self, database: LatencyDatabase) -> None:
        number = database.begin_run(["nasnet b1"], ["cpu", "sim:v100"], settings={"gap": 0.01})
        row = database.run(number)
        assert (row.outcome, row.models, row.devices) == (SearchState.RUNNING, ("nasnet b1",), ("cpu", "sim:v100"))
        assert (row.finished_at, row.summary, row.settings) == (None, RunSummary(), {"gap": 0.01})
        assert row.host
        assert row.version
        assert 0 <= row.silent < 60
        search = database.start_search("nasnet", {}, run_id=number)
        database.start_search("other", {})
        assert [(s.id, s.run_id) for s in database.searches(run_id=number)] == [(search, number)]
        summary = RunSummary(90, 40, 50, {"timeout": 2, "worker died": 1}, 0.97, 0.01)
        database.update_run(number, RunSummary(90, 20, 50))
        database.finish_run(number, "interrupted", summary, note="Ctrl-C \0")
        (row,) = database.runs()
        assert (row.outcome, row.summary, row.note) == (SearchState.INTERRUPTED, summary, "Ctrl-C \ufffd")
        assert row.finished_at is not None
        assert row.finished_at >= row.started_at
        for change in (
            lambda: database.update_run(number, summary),
            lambda: database.finish_run(number, "finished", summary),
        ):
            with pytest.raises(DatabaseError, match=f"run {number} is interrupted already"):
                change()
        with pytest.raises(DatabaseError, match="there is no run 99"):
            database.update_run(99, summary)
        with pytest.raises(DatabaseError, match="there is no run 99; `iosfarm runs list`"):
            database.run(99)
        for gap in (float("nan"), -1.0):
            with pytest.raises(ValueError, match="a run's gap"):
                database.update_run(number, RunSummary(gap=gap))
        second = database.begin_run([], [])
        assert [r.id for r in database.runs(limit=1)] == [second]
        assert [r.id for r in database.runs(outcome="running")] == [second]

    # Quarantine

    def test_quarantine_hides_what_one_device_measured_since(self, database: LatencyDatabase) -> None:
        s, t = stage(1), stage(2)
        twin = replace(CPU, instance={"host": "b"})
        (before,) = database.record([(s, ok(s, 1.0))], twin, ENVIRONMENT)
        items = [(s, ok(s, 2.0, minutes=5)), (t, bad(t, Status.INFEASIBLE, minutes=6)), (t, bad(t, minutes=6))]
        liar = database.record(items, twin, ENVIRONMENT)
        (honest,) = database.record([(t, ok(t, 3.0, minutes=5))], CPU, ENVIRONMENT)
        found = database.quarantine(twin, NOON + timedelta(minutes=1), "its canaries disagree")
        assert found == {liar[0]: s.key, liar[1]: t.key}
        assert database.quarantine(twin, NOON + timedelta(minutes=1), "again") == {}
        assert {k: r.id for k, r in database.lookup([s.key, t.key], CPU, ENVIRONMENT).items()} == {
            s.key: before,
            t.key: honest,
        }
        rows = {row.id: row for row in database.query()}
        assert {row.status for row in rows.values()} == {"ok", "quarantined", "failed"}
        assert (rows[liar[0]].median, rows[liar[0]].reason) == (2.0, "its canaries disagree")
        # Recording the same batch again neither stores it twice nor lifts the flag.
        assert database.record(items, twin, ENVIRONMENT) == liar
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].id == before
        assert self.claim(database, "a", 1).measured[s.key].id == before
        for reason, since in (("", NOON), ("x", NOON.replace(tzinfo=None))):
            with pytest.raises(ValueError, match="quarantine needs"):
                database.quarantine(twin, since, reason)

    def test_a_quarantine_is_seen_set_and_lifted(self, database: LatencyDatabase) -> None:
        s, t, u = stage(1), stage(2), stage(3)
        twin = replace(CPU, instance={"host": "b", "index": 1})
        rows = [(s, ok(s, 1.0)), (t, bad(t, Status.INFEASIBLE, minutes=5)), (u, bad(u, minutes=6))]
        database.record(rows, twin, ENVIRONMENT)
        adrift = replace(ok(u, 2.0), status=Status.QUARANTINED, reason=f"{ADRIFT}1.50 of what it took at the start")
        database.record([(u, adrift)], twin, ENVIRONMENT)
        database.record([(s, ok(s, 3.0))], GPU, OTHER)
        assert database.set_quarantine("Example CPU", "a fan", instance={"host": "b"}, since=NOON) == 2
        assert database.set_quarantine("cpu", "again") == 0
        assert database.lookup([s.key, t.key], CPU, ENVIRONMENT) == {}
        found = {item.reason: (item.model, item.instance, item.measurements) for item in database.quarantined()}
        assert found.pop("a fan") == ("Example CPU", {"host": "b", "index": 1}, 2)
        assert [reason.startswith(ADRIFT) for reason in found] == [True]
        assert database.lift_quarantine("cpu", instance={"index": "1"}) == 2
        believed = {key: r.measurement for key, r in database.lookup([s.key, t.key, u.key], CPU, ENVIRONMENT).items()}
        assert {key: m.status for key, m in believed.items()} == {s.key: Status.OK, t.key: Status.INFEASIBLE}
        assert [item.measurements for item in database.quarantined()] == [1]  # what was adrift stays
        with pytest.raises(DatabaseError, match="no device 'tpu'"):
            database.set_quarantine("tpu", "x")
        with pytest.raises(DatabaseError, match=r"no such one of 'cpu'; there are .*host"):
            database.lift_quarantine("cpu", instance={"host": "c"})

    # Processes and threads

    def test_two_processes_create_and_record_the_same_stages(self, url: str) -> None:
        assert in_processes(record_shuffled, url, [1, 2]) == [60, 60]
        with LatencyDatabase(url) as database:
            stats = database.stats()
            assert (stats.stages, stats.measurements, stats.devices[0].instances) == (60, 120, 1)
            assert all(len(row.operators) == 1 for row in database.query())

    def test_threads_share_a_handle(self, database: LatencyDatabase) -> None:
        def work(thread: int) -> list[int]:
            items = [(stage(i), replace(ok(stage(i)), attempt=thread + 1)) for i in range(10)]
            return [n for item in items for n in database.record([item], CPU, ENVIRONMENT)]

        with ThreadPoolExecutor(4) as pool:
            numbers = [n for found in pool.map(work, range(4)) for n in found]
        assert len(set(numbers)) == 40
        assert database.stats().stages == 10

    def test_pickled_handle_connects_anew(self, database: LatencyDatabase) -> None:
        s = stage(1)
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        with pickle.loads(pickle.dumps(database)) as copy:
            assert list(copy.lookup([s.key], CPU, ENVIRONMENT)) == [s.key]
            database.close()
            copy.record([(s, ok(s))], CPU, ENVIRONMENT)

    # Handles

    def test_read_only_handle_reads(self, database: LatencyDatabase, url: str) -> None:
        s = stage(1)
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        with LatencyDatabase(url, readonly=True) as reader:
            assert list(reader.lookup([s.key], CPU, ENVIRONMENT)) == [s.key]
            with pytest.raises(DatabaseError, match="opened read-only"):
                reader.record([(s, ok(s))], CPU, ENVIRONMENT)
            with pytest.raises(DatabaseError, match="opened read-only"):
                reader.migrate()

    def test_closed_handle_says_so(self, database: LatencyDatabase) -> None:
        database.close()
        database.close()
        with pytest.raises(DatabaseError, match="this handle is closed"):
            database.stats()
