"""Under any order of failures a search finds what the serial solver finds; each kind is told apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from farm_examples import EXHAUSTIVE, branches, drive, job
from faulty_executor import FAULTS, Fault, FaultyExecutor
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.db import LatencyDatabase, TransientDatabaseError
from iosfarm.farm.dispatch.fleet import FarmError
from iosfarm.farm.dispatch.patience import patient
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.dispatch.trust import canaries
from iosfarm.farm.events import Event
from iosfarm.farm.executors.executor import Change, Outcome, Turn
from iosfarm.farm.jobs.job import JobResult
from iosfarm.ir.measurement import Status
from iosfarm.ir.stage import Stage
from iosfarm.kernels import open_runtime
from iosfarm.search.method import Method
from iosfarm.search.parts import cut
from iosfarm.search.solver import solve
from iosfarm.workers.failures import Failure

DEVICES = "sim:v100?noise=0&count=3"
POLICY = Policy(most_simulated_stages=4, look=0.0)


@cache
def serial() -> tuple[tuple[str, ...], float]:
    """Keys and latency of the best schedule: one device, no farm."""
    runtime = open_runtime("sim:v100?noise=0")

    def latency(stage: Stage) -> float:
        with runtime.prepare(stage) as executable:
            return executable.time(1)[0]

    solutions = [solve(part, latency, method="exhaustive") for part in cut(branches())]
    stages = tuple(stage.key for solution in solutions for stage in solution.stages)
    return stages, sum(solution.predicted for solution in solutions)


class Flaky:
    """A database that is away each time it is told to be; its methods may have done their work all the same."""

    def __init__(self, database: LatencyDatabase, away: list[str]) -> None:
        self._database = database
        self._away = away

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._database, name)
        if not callable(value):
            return value

        def call(*arguments: object, **named: object) -> object:
            how = self._away.pop() if self._away else "there"
            result = value(*arguments, **named) if how != "away" else None
            if how != "there":
                raise TransientDatabaseError("no server")
            return result

        return call


def search(
    executor: FaultyExecutor, database: object, device: str = DEVICES, policy: Policy = POLICY, **named: Any
) -> JobResult:
    method = named.pop("method", EXHAUSTIVE)
    (result,) = drive(
        [job(device=device, method=method)],
        database,  # type: ignore[arg-type]
        executor,
        policy=policy,
        clock=executor.clock,
        **named,
    )
    return result


def check(result: JobResult) -> None:
    keys, latency = serial()
    optimised = result.schedules["optimised"]
    assert optimised.predicted == pytest.approx(latency, rel=1e-9)
    assert tuple(stage.key for stage in optimised.stages) == keys
    assert result.counts.failed == 0
    assert result.counts.left == 0
    assert optimised.certificate is not None
    assert optimised.certificate.kind == "exhaustive"


faults = st.lists(
    st.builds(Fault, st.sampled_from(FAULTS), st.integers(0, 2), st.integers(0, 3)), min_size=3, max_size=40
)
absences = st.lists(st.sampled_from(["there", "away", "done, but not told"]), max_size=30)


@settings(max_examples=40, deadline=None)
@given(faults, absences)
def test_any_order_of_failures_gives_the_serial_solvers_schedule(order: list[Fault], away: list[str]) -> None:
    executor = FaultyExecutor(order)
    with LatencyDatabase("sqlite://") as database:
        flaky = patient(Flaky(database, list(away)), outage=1e9, sleep=lambda _: None)  # type: ignore[arg-type]
        check(search(executor, flaky))
        rows = database.query()
        # Whatever happened, no failure has a latency, and no latency that is used was measured by a device adrift.
        assert all(row.median is None for row in rows if row.status in (Status.FAILED, Status.TIMEOUT))
        exact = {row.stage_key: row.median for row in rows if row.status == Status.OK}
        assert {row.median for row in rows if row.status == Status.OK} == set(exact.values())
        counted = [key for _, key in executor.measured]
        assert len([row for row in rows if row.status == Status.OK]) <= len(counted)


@settings(max_examples=10, deadline=None)
@given(faults)
def test_a_certified_search_is_as_good(order: list[Fault]) -> None:
    with LatencyDatabase("sqlite://") as database:
        result = search(FaultyExecutor(order), database, method=Method(gap=0))
    assert result.schedules["optimised"].predicted == pytest.approx(serial()[1], rel=1e-9)


def test_these_failures_do_happen() -> None:
    happened: set[str] = set()
    for kind in FAULTS:
        executor = FaultyExecutor([Fault("none", n) for n in range(3)] + [Fault(kind, n) for n in range(6)])
        with LatencyDatabase("sqlite://") as database:
            check(search(executor, database))
        happened.update(executor.happened)
    assert happened == set(FAULTS)


# -- one by one ----------------------------------------------------------------------------------------------------


def told(order: list[Fault], **named: Any) -> tuple[JobResult, list[Event]]:
    events: list[Event] = []
    with LatencyDatabase("sqlite://") as database:
        return search(FaultyExecutor(order), database, emit=events.append, **named), events


@pytest.mark.parametrize("kind", ["killed", "hung", "out_of_memory", "raised", "timeout", "drift"])
def test_each_kind_is_told_apart(kind: str) -> None:
    # The first three tasks are the canaries.
    result, events = told([Fault("none", n) for n in (0, 0, 0)] + [Fault(kind)])
    check(result)
    assert {str(event.fields["kind"]) for event in events if event.name == "failed"} == {kind}


def test_a_stage_that_failed_is_tried_elsewhere_first() -> None:
    executor = FaultyExecutor([Fault("none")] * 3 + [Fault("out_of_memory", turn=1)])
    with LatencyDatabase("sqlite://") as database:
        check(search(executor, database))
        (failed,) = (row for row in database.query() if row.status == Status.FAILED)
    places = [device for device, key in executor.measured if key == failed.stage_key]
    assert places
    assert failed.worker  # where it failed is known
    assert "sim:v100?noise=0#1" not in places[:1]


def test_a_poison_stage_is_capped_named_and_routed_around() -> None:
    keys, _ = serial()
    poison = keys[0]
    executor = FaultyExecutor(poison=poison)
    with LatencyDatabase("sqlite://") as database:
        result = search(executor, database)
        rows = [row for row in database.query() if row.stage_key == poison]
    assert result.counts.failed == 1
    assert result.counts.measured == result.counts.stages - 1
    assert poison not in [stage.key for stage in result.schedules["optimised"].stages]
    assert [row.status for row in rows] == [Status.FAILED] * POLICY.attempts
    assert len({row.worker for row in rows}) > 1  # elsewhere first
    assert any(note.startswith("gave up on") for note in result.notes)
    # Once in company, which proves nothing, then alone.
    assert executor.happened.count("killed") == POLICY.attempts + 1


def test_a_device_that_lies_measures_nothing_that_counts() -> None:
    executor = FaultyExecutor()
    with LatencyDatabase("sqlite://") as database:
        jobs = [job(device=device, method=EXHAUSTIVE) for device in (DEVICES, "sim:v100?noise=0&lie=0.5")]
        events: list[Event] = []
        # One model, one environment: one pool, and one job.
        (result,) = drive(jobs, database, executor, policy=POLICY, clock=executor.clock, emit=events.append)
    check(result)
    (note,) = (note for note in result.notes if "not believed" in note)
    assert note.startswith("sim:v100?noise=0&lie=0.5 is not believed: a canary stage takes 0.50 of what")
    assert [event.fields["kind"] for event in events if event.name == "device_quarantined"] == ["disagrees"]


def test_of_two_that_disagree_it_is_said() -> None:
    executor = FaultyExecutor()
    with LatencyDatabase("sqlite://") as database:
        jobs = [job(device=device, method=EXHAUSTIVE) for device in ("sim:v100?noise=0", "sim:v100?noise=0&lie=0.5")]
        (result,) = drive(jobs, database, executor, policy=POLICY, clock=executor.clock)
    assert any("disagree by" in note and "no third one can tell" in note for note in result.notes)


def test_a_third_device_tells_which_of_two_lies_and_its_measurements_are_flagged() -> None:
    executor = FaultyExecutor()

    def later() -> bool:
        lied = sum(1 for device, _ in executor.measured if "lie" in device)
        if "another" not in executor.names and lied > len(canaries("nhwc")):
            executor.join("another", "sim:v100?noise=0")
        return False

    events: list[Event] = []
    with LatencyDatabase("sqlite://") as database:
        devices = ("sim:v100?noise=0", "sim:v100?noise=0&lie=0.5")
        jobs = [job(device=device, method=EXHAUSTIVE) for device in devices]
        settings = {"policy": POLICY, "clock": executor.clock, "emit": events.append, "stop": later}
        (result,) = drive(jobs, database, executor, **settings)
        rows = [row for row in database.query() if "lie=0.5" in row.worker]
        assert rows
        assert {str(row.status) for row in rows} == {"quarantined"}
        assert any("were flagged: what rests on them is made anew" in note for note in result.notes)
        # So nothing that it has told is in the answer, nor in what was learned; the next search has nothing to mend.
        check(result)
        known = {row.stage_key: row.median for row in database.query(status="ok")}
        again = FaultyExecutor()
        check(search(again, database))
        assert {key for _, key in again.measured} <= {stage.key for stage in canaries("nhwc")} | known.keys()
    assert [event.fields["device"] for event in events if event.name == "measurements_flagged"] == [devices[1]]


def test_a_device_that_drifts_is_quarantined_and_its_measurements_are_flagged() -> None:
    executor = FaultyExecutor()
    with LatencyDatabase("sqlite://") as database:
        jobs = [job(device=device, method=EXHAUSTIVE) for device in (DEVICES, "sim:v100?noise=0&drift=1.5&seed=1")]
        strict = replace(POLICY, strikes=1)
        (result,) = drive(jobs, database, executor, policy=strict, clock=executor.clock)
        flagged = [row for row in database.query() if row.status == Status.QUARANTINED]
    check(result)
    assert any("drift=1.5&seed=1 is not believed: its reference stage" in note for note in result.notes)
    assert flagged


def test_a_device_that_joins_is_used() -> None:
    executor = FaultyExecutor()
    looks = 0

    def later() -> bool:
        nonlocal looks
        looks += 1
        if looks == 4:
            executor.join("another", "sim:v100?noise=0#0")
        return False

    with LatencyDatabase("sqlite://") as database:
        check(search(executor, database, stop=later))
    assert "another" in {device for device, _ in executor.measured}


class Leaving(FaultyExecutor):
    """All devices are switched off after ten stages and their canaries."""

    def wait(self, timeout: float) -> list[Outcome]:
        if len(self.measured) >= 12 + 10:
            self.now += 10.0
            for device in list(self._tasks):
                self._end(device, Failure.KILLED, "switched off")
                del self._tasks[device]
                self._changes.append(Change(Turn.LEFT, self._infos[device], reason="switched off"))
        return super().wait(timeout)


def test_where_all_devices_leave_the_search_ends_with_what_is_known() -> None:
    executor = Leaving()
    with LatencyDatabase("sqlite://") as database:
        with pytest.raises(FarmError, match=r"no device is left: their workers ended; what was measured is kept"):
            search(executor, database)
        known = {row.stage_key for row in database.query() if row.status == Status.OK}
        assert len(known) >= 10
        again = FaultyExecutor()
        check(search(again, database))
    # What is known is measured again only where the answer rests on it.
    assert set(Counter(key for _, key in again.measured if key in known).values()) <= {1}
    watched = {stage.key for stage in canaries("nhwc")}
    assert len({key for _, key in again.measured} - known - watched) == 25 - len(known)
