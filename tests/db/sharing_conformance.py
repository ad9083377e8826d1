"""Leases, quarantine, and several processes and threads on one database. A subclass overrides the fixture `url`."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from database_contents import GPU, OTHER
from database_examples import CPU, ENVIRONMENT, NOON, SIM, bad, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import Claims, DatabaseError, LatencyDatabase
from iosfarm.db.quarantine import ADRIFT
from iosfarm.ir.device import Environment
from iosfarm.ir.measurement import Status


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


class SharingConformance(DatabaseFixtures):
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

    def test_a_driver_whose_clock_is_wrong_takes_nothing_from_others(
        self, database: LatencyDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database.claim_stages([stage(1).key], CPU, ENVIRONMENT, "a", 600)
        now = time.time()
        for ahead in (86_400.0, -86_400.0):
            monkeypatch.setattr(time, "time", lambda ahead=ahead: now + ahead)
            claims = database.claim_stages([stage(1).key, stage(2).key], CPU, ENVIRONMENT, "b", 600)
            assert (claims.granted, claims.held) == (keys(2), keys(1))
            assert database.claim_stages([stage(2).key], CPU, ENVIRONMENT, "a", 600).held == keys(2)

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
