"""The farm's loop on simulated devices: what is measured, what is recorded, what comes out."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, SMALL, Failing, Recorder, drive, job, paper_space, recorded

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.farm.executors.executor import Outcome
from iosfarm.farm.jobs.verdict import fastest
from iosfarm.ir.errors import UsageError
from iosfarm.ir.measurement import Status
from iosfarm.ir.stage import Stage
from iosfarm.kernels import open_runtime
from iosfarm.search.parts import cut
from iosfarm.search.solver import solve
from iosfarm.workers.failures import Failure
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.zoo.load import load

# -- what comes out ------------------------------------------------------------------------------------------------


def test_the_result_is_what_solve_finds_with_the_same_latencies(database: LatencyDatabase) -> None:
    graph = load("squeezenet")
    (result,) = drive([job(graph, device="sim:v100?noise=0", method=EXHAUSTIVE)], database)
    runtime = open_runtime("sim:v100?noise=0")

    def latency(stage: Stage) -> float:
        with runtime.prepare(stage) as executable:
            return executable.time(1)[0]

    solutions = [solve(part, latency, method="exhaustive") for part in cut(graph)]
    optimised = result.schedules["optimised"]
    assert optimised.predicted == pytest.approx(sum(s.predicted for s in solutions), rel=1e-9)
    assert [s.key for s in optimised.stages] == [s.key for solution in solutions for s in solution.stages]
    optimised.place(graph, runtime.layout)
    assert optimised.certificate is not None
    assert optimised.certificate.kind == "exhaustive"
    assert optimised.certificate.gap == 0
    # End to end a simulated schedule takes as long as its stages.
    assert result.latency("optimised") == pytest.approx(optimised.predicted, rel=1e-6)
    assert result.chosen == "optimised"
    assert not result.interrupted


def test_predictions_rest_on_recorded_measurements(database: LatencyDatabase) -> None:
    (result,) = drive([job()], database)
    rows = {row.id: row for row in database.query()}
    for schedule in result.schedules.values():
        for stage in schedule.stages:
            assert stage.measurement is not None
            assert rows[stage.measurement].stage_key == stage.key
            assert rows[stage.measurement].median == stage.predicted
            assert rows[stage.measurement].simulated


def test_a_second_search_measures_nothing(database: LatencyDatabase) -> None:
    (first,) = drive([job(method=EXHAUSTIVE)], database)
    executor = Recorder()
    (second,) = drive([job(method=EXHAUSTIVE)], database, executor)
    assert executor.measured == executor.checked == []
    assert first.counts.measured == first.counts.stages == second.counts.found
    assert second.counts.measured == second.counts.left == 0
    assert second.schedules["optimised"].predicted == first.schedules["optimised"].predicted


def test_a_part_of_the_space_is_found_and_the_rest_measured(database: LatencyDatabase) -> None:
    (small,) = drive([job(space=paper_space(), method=EXHAUSTIVE)], database)
    executor = Recorder()
    (large,) = drive([job(method=EXHAUSTIVE)], database, executor)
    assert large.counts.found == small.counts.stages
    assert large.counts.measured == len(executor.measured) == large.counts.stages - small.counts.stages > 0


def test_jobs_that_share_stages_measure_each_once(database: LatencyDatabase) -> None:
    executor = Recorder()
    jobs = [job(label="one"), job(label="two"), job(load("squeezenet"))]
    jobs = [replace(j, settings=replace(j.settings, method=EXHAUSTIVE)) for j in jobs]
    results = drive(jobs, database, executor)
    assert max(Counter(executor.measured).values()) == 1
    assert [r.job.label for r in results] == ["one", "two", "squeezenet"]
    assert all(r.counts.left == r.counts.failed == 0 for r in results)
    # Of what two jobs want, both say that it was measured for them.
    assert results[0].counts == results[1].counts


def test_devices_share_nothing(database: LatencyDatabase, path: Path) -> None:
    results = drive([job(method=EXHAUSTIVE), job(device="sim:k80", method=EXHAUSTIVE)], database)
    assert all(r.counts.found == 0 for r in results)
    assert set(recorded(path).values()) == {2}
    assert results[0].schedules["optimised"].predicted != results[1].schedules["optimised"].predicted


def test_the_fastest_schedule_is_chosen_and_the_simpler_one_within_noise() -> None:
    assert fastest({"sequential": 1.0, "greedy": 0.995, "optimised": 0.992}) == "sequential"
    assert fastest({"sequential": 1.0, "greedy": 0.9, "optimised": 0.895}) == "optimised"
    assert fastest({"sequential": 1.0, "greedy": 0.9, "optimised": 0.95}) == "greedy"
    assert fastest({"sequential": 1.0, "optimised": 0.95}) == "optimised"
    assert fastest({"sequential": 1.0, "greedy": 1.2, "optimised": 1.1}) == "sequential"
    assert fastest({"greedy": 1.2, "optimised": 1.1}) == "optimised"


# -- checking the answer -------------------------------------------------------------------------------------------


def test_the_answer_rests_on_many_samples(database: LatencyDatabase) -> None:
    executor = Recorder()
    (result,) = drive([job()], database, executor)
    rows = {row.id: row for row in database.query()}
    answer = [rows[stage.measurement or 0] for stage in result.schedules["optimised"].stages]
    assert all(row.n >= EFFORTS[Effort.CAREFUL].min_samples for row in answer)
    assert {row.stage_key for row in answer} <= set(executor.checked)
    # Only what was (nearly) the best schedule at some time is checked, each stage once.
    assert max(Counter(executor.checked).values()) == 1
    assert len(executor.checked) < result.counts.stages


class Unlucky(Failing):
    """Nothing that is measured again is measured well; the first time all is."""

    def _spoiled(self, outcome: Outcome) -> Outcome:
        if self._efforts.get(outcome.task) is not Effort.CAREFUL:
            return super()._spoiled(outcome)
        self._tasks.pop(outcome.task)
        return Outcome(outcome.task, outcome.device, error="the worker died: killed", failure=Failure.KILLED)


def test_a_check_that_fails_leaves_the_first_latency(database: LatencyDatabase) -> None:
    executor = Unlucky(lambda stage: None)
    (result,) = drive([job(method=EXHAUSTIVE)], database, executor)
    assert result.counts.failed == 0
    assert result.counts.measured == result.counts.stages
    assert result.schedules["optimised"].predicted is not None
    assert {row.status for row in database.query()} == {Status.OK, Status.FAILED}
    # The next search checks what this one could not.
    again = Recorder()
    drive([job(method=EXHAUSTIVE)], database, again)
    assert again.measured == []
    assert again.checked


# -- wrong usage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["sim:nothing", "cuda", "tpu", "sim:v100?noise=no"])
def test_an_unknown_device_is_wrong_usage_before_anything_is_measured(
    database: LatencyDatabase, path: Path, device: str
) -> None:
    with pytest.raises(UsageError):
        drive([job(), job(device=device)], database)
    assert recorded(path) == {}


# -- the database in the middle of it ------------------------------------------------------------------------------


class Breaking(Recorder):
    """Does something after so many tasks."""

    def __init__(self, after: int, action: Callable[[], None]) -> None:
        super().__init__()
        self.left = after
        self.action = action

    def wait(self, timeout: float) -> list[Outcome]:
        self.left -= 1
        if self.left == 0:
            self.action()
        return super().wait(timeout)


def test_a_database_that_is_locked_in_the_middle(database: LatencyDatabase, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    executor = Breaking(3, lambda: other.execute("BEGIN IMMEDIATE") and None)
    with pytest.raises(DatabaseError, match="another process holds the database"):
        drive([job(method=EXHAUSTIVE)], database, executor, policy=SMALL)
    other.execute("ROLLBACK")
    other.close()
    before = executor.measured[:-2]  # the last task's stages could not be recorded
    assert before
    assert set(recorded(path)) == set(before)
    again = Recorder()
    (result,) = drive([job(method=EXHAUSTIVE)], database, again)
    assert result.counts.found == len(before)
    assert len(again.measured) == result.counts.stages - len(before)


def test_a_database_that_becomes_read_only_in_the_middle(database: LatencyDatabase, path: Path) -> None:
    def forbid() -> None:
        database.readonly = True

    executor = Breaking(3, forbid)
    with pytest.raises(DatabaseError, match="read-only"):
        drive([job()], database, executor, policy=SMALL)
    assert set(recorded(path)) == set(executor.measured[:-2])
