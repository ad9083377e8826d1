"""What every latency database does, whatever it is kept in. A subclass overrides the fixture `url`.

(Not called `conformance`: test folders are no packages, and the runtimes' suite has that name.)
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from database_examples import CPU, ENVIRONMENT, SIM, bad, conv, ok, stage

from iosfarm.db import DatabaseError, LatencyDatabase, ScheduledStageRow, SearchState
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status
from iosfarm.ir.summary import OperatorSummary


def claim_all(url: str, owner: str) -> list[int]:
    with LatencyDatabase(url) as database:
        claimed: list[int] = []
        while more := database.claim(owner, 3, lease_seconds=600):
            claimed += [task.id for task in more]
        return claimed


def record_shuffled(url: str, seed: int) -> int:
    stages = [stage(n) for n in range(60)]
    random.Random(seed).shuffle(stages)
    with LatencyDatabase(url) as database:
        for start in range(0, 60, 20):
            database.record([(s, ok(s)) for s in stages[start : start + 20]], CPU, ENVIRONMENT)
    return len(stages)


def in_processes(function: Any, url: str, arguments: list[Any]) -> list[Any]:
    """Spawned, not forked: a fresh process opens the database as a worker's driver does."""
    with ProcessPoolExecutor(len(arguments), multiprocessing.get_context("spawn")) as pool:
        return [f.result(timeout=120) for f in [pool.submit(function, url, a) for a in arguments]]


class LatencyDatabaseConformance:
    @pytest.fixture
    def url(self) -> str:
        """The URL of an empty database."""
        raise NotImplementedError

    @pytest.fixture
    def database(self, url: str) -> Iterator[LatencyDatabase]:
        with LatencyDatabase(url) as database:
            yield database

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

    def test_newest_usable_one_counts(self, database: LatencyDatabase) -> None:
        s = stage(1)
        items = [ok(s, 2.0, minutes=5), ok(s, 1.0, minutes=1)]
        items += [bad(s, status, minutes=9) for status in (Status.FAILED, Status.TIMEOUT, Status.QUARANTINED)]
        for item in items:
            database.record([(s, item)], CPU, ENVIRONMENT)
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.samples == (2.0,)
        database.record([(s, bad(s, Status.INFEASIBLE, minutes=10))], CPU, ENVIRONMENT)
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.status is Status.INFEASIBLE
        assert len(database.query()) == 6  # the older rows are all there

    def test_of_equally_new_ones_the_last_recorded_counts(self, database: LatencyDatabase) -> None:
        s = stage(1)
        database.record([(s, ok(s, 1.0)), (s, ok(s, 2.0))], CPU, ENVIRONMENT)
        assert database.lookup([s.key], CPU, ENVIRONMENT)[s.key].measurement.samples == (2.0,)

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
        database.record([(s, ok(s))], twin, ENVIRONMENT)
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
        database.record([(s, ok(s)), (t, bad(t, minutes=2)), (s, ok(s))], CPU, ENVIRONMENT)
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

    # Tasks

    def test_tasks_are_claimed_oldest_first_for_a_device(self, database: LatencyDatabase) -> None:
        mine = database.add_tasks([stage(1), stage(2), stage(3)], CPU)
        database.add_tasks([stage(1)], SIM)
        claimed = database.claim("a", 2, 60, device=CPU)
        assert [task.id for task in claimed] == mine[:2]
        assert {task.stage_key for task in claimed} < {stage(n).key for n in (1, 2, 3)}
        assert {task.canonical for task in claimed} < {stage(n).canonical for n in (1, 2, 3)}
        assert {(task.attempt, task.device_key) for task in claimed} == {(1, CPU.key)}
        assert [task.id for task in database.claim("b", 9, 60, device=CPU)] == mine[2:]
        assert len(database.claim("b", 9, 60)) == 1
        assert database.claim("b", 9, 60) == []

    def test_open_tasks_are_not_added_twice(self, database: LatencyDatabase) -> None:
        (number,) = database.add_tasks([stage(1), stage(1)], CPU)
        assert database.add_tasks([stage(1)], CPU) == []
        database.claim("a", 1, 60)
        assert database.add_tasks([stage(1)], CPU) == []
        assert database.finish([number], "a") == [number]
        assert len(database.add_tasks([stage(1)], CPU)) == 1

    def test_expired_lease_goes_to_the_next_and_the_late_owner_is_refused(self, database: LatencyDatabase) -> None:
        (number,) = database.add_tasks([stage(1)], CPU)
        database.claim("late", 1, lease_seconds=-1)  # expired at once: nothing has to wait
        (task,) = database.claim("next", 1, lease_seconds=600)
        assert (task.id, task.attempt) == (number, 2)
        assert database.heartbeat([number], "late", 600) == []
        assert database.finish([number], "late") == []
        assert database.release([number], "late") == []
        assert database.stats().tasks == {"claimed": 1}
        assert database.finish([number], "next", failed=True) == [number]
        assert database.finish([number], "next") == []
        assert database.stats().tasks == {"failed": 1}

    def test_heartbeat_keeps_a_lease(self, database: LatencyDatabase) -> None:
        kept, lost = database.add_tasks([stage(1), stage(2)], CPU)
        database.claim("a", 2, lease_seconds=-1)
        assert database.heartbeat([kept], "a", 600) == [kept]
        assert [task.id for task in database.claim("b", 2, 600)] == [lost]

    def test_released_task_is_free_again(self, database: LatencyDatabase) -> None:
        (number,) = database.add_tasks([stage(1)], CPU)
        database.claim("a", 1, 600)
        assert database.release([number], "a") == [number]
        assert [task.id for task in database.claim("b", 1, 600)] == [number]

    # Processes and threads

    def test_two_processes_never_claim_the_same_task(self, database: LatencyDatabase, url: str) -> None:
        numbers = database.add_tasks([stage(n) for n in range(120)], CPU)
        claims = in_processes(claim_all, url, ["a", "b"])
        assert Counter(n for claimed in claims for n in claimed) == Counter(numbers)

    def test_two_processes_create_and_record_the_same_stages(self, url: str) -> None:
        assert in_processes(record_shuffled, url, [1, 2]) == [60, 60]
        with LatencyDatabase(url) as database:
            stats = database.stats()
            assert (stats.stages, stats.measurements, stats.devices[0].instances) == (60, 120, 1)
            assert all(len(row.operators) == 1 for row in database.query())

    def test_threads_share_a_handle(self, database: LatencyDatabase) -> None:
        def work(thread: int) -> list[int]:
            return [n for i in range(10) for n in database.record([(stage(i), ok(stage(i)))], CPU, ENVIRONMENT)]

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
