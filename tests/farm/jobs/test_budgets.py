"""Budgets: what a search may measure, and what counts as its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, Failing, Recorder, certificate, drive, job, recorded

from iosfarm.db import LatencyDatabase
from iosfarm.ir.measurement import Status
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.solver import NoScheduleError
from iosfarm.zoo.load import load

NETWORK = "googlenet"
"""Of 1261 stages: enough for statistics, few enough to measure them all."""

QUIET = "sim:v100?noise=0"
ZEROS = [Budget(stages=0), Budget(seconds=0)]


@pytest.mark.parametrize("method", [Method(), EXHAUSTIVE], ids=lambda method: method.name)
@pytest.mark.parametrize("stages", [47, 90])
def test_a_budget_in_stages_is_respected_to_the_stage(
    database: LatencyDatabase, path: Path, stages: int, method: Method
) -> None:
    executor = Recorder()
    limited = job(load("squeezenet"), device=QUIET, budget=Budget(stages=stages), method=method)
    (result,) = drive([limited], database, executor)
    assert len(set(executor.measured)) == len(executor.measured) == stages
    assert result.counts.measured == stages == len(recorded(path))
    assert set(executor.checked) <= set(executor.measured)
    assert result.interrupted
    assert f"the budget of {stages} stages ended the search" in result.notes
    assert result.latency("optimised") is not None  # the comparison end to end comes all the same
    proof = certificate(result)
    assert proof.gap > 0.01
    # The next one takes up where this one stopped, and finds the best to lie where it was said to.
    (complete,) = drive([job(load("squeezenet"), device=QUIET, method=EXHAUSTIVE)], database)
    assert complete.counts.found == stages
    assert proof.lower <= certificate(complete).upper <= proof.upper


def test_a_budget_that_is_enough_goes_without_saying(database: LatencyDatabase) -> None:
    (result,) = drive([job(budget=Budget(stages=25))], database)
    assert result.counts.measured <= result.counts.stages == 25
    assert not result.interrupted
    assert not any("budget" in note for note in result.notes)


def test_a_stage_that_fails_counts_for_the_budget(database: LatencyDatabase) -> None:
    executor = Failing(lambda stage: Status.FAILED if len(stage.groups) > 1 else None)
    (result,) = drive([job(load("squeezenet"), budget=Budget(stages=60))], database, executor)
    assert len(executor.attempts) == 60
    assert result.counts.measured + result.counts.failed == 60
    assert result.counts.failed > 0
    assert result.interrupted


def test_what_another_job_measures_is_no_cost(database: LatencyDatabase) -> None:
    executor = Recorder()
    jobs = [job(load("squeezenet"), label="limited", budget=Budget(stages=45)), job(load("squeezenet"), label="other")]
    limited, other = drive(jobs, database, executor)
    assert max(Counter(executor.measured).values()) == 1
    assert other.counts.measured == len(executor.measured)
    assert not other.interrupted
    limited.schedule.place(limited.job.graph, limited.device.layout)


@pytest.mark.parametrize("budget", ZEROS, ids=str)
def test_a_budget_of_nothing_measures_nothing(database: LatencyDatabase, budget: Budget) -> None:
    executor = Recorder()
    with pytest.raises(NoScheduleError) as caught:
        drive([job(budget=budget)], database, executor)
    assert str(caught.value) == (
        f"branches-sim-v100-b1-float32: no schedule yet: the budget of {budget} ended before 6 single units had been "
        "measured; raise the budget; what was measured is kept"
    )
    assert executor.measured == executor.evaluated == []
    assert database.query() == []


@pytest.mark.parametrize("budget", ZEROS, ids=str)
def test_a_budget_of_nothing_answers_from_the_database(database: LatencyDatabase, budget: Budget) -> None:
    network = load("squeezenet")
    (known,) = drive([job(network, budget=Budget(stages=60))], database)
    executor = Recorder()
    (result,) = drive([job(network, budget=budget)], database, executor)
    assert executor.measured == executor.checked == executor.evaluated == []
    assert (result.counts.found, result.counts.measured) == (60, 0)
    assert result.schedules["optimised"].stages == known.schedules["optimised"].stages
    assert certificate(result).gap == pytest.approx(certificate(known).gap)
    assert result.interrupted
    assert not result.measured
    assert result.speedup is not None
    assert f"the budget of {budget} ended the search" in result.notes


def test_a_refinement_counts_for_the_budget(database: LatencyDatabase) -> None:
    network = load("squeezenet")
    drive([job(network)], database)
    executor = Recorder()
    drive([job(network, refine=True, budget=Budget(stages=7))], database, executor)
    assert len(set(executor.measured)) == 7


def passing() -> Callable[[], float]:
    """A clock on which every look at it takes a second."""
    return map(float, count()).__next__


def test_a_budget_that_ends_while_stages_are_enumerated(database: LatencyDatabase) -> None:
    executor = Recorder()
    with pytest.raises(NoScheduleError) as caught:
        drive([job(load("squeezenet"), budget=Budget(seconds=2))], database, executor, clock=passing())
    assert str(caught.value) == (
        "squeezenet-sim-v100-b1-float32: no schedule yet: the budget of 2 s ended while its stages were enumerated; "
        "raise the budget; a budget of 0 takes the time, and answers from what is known"
    )
    assert executor.measured == []


def test_a_stop_while_stages_are_enumerated(database: LatencyDatabase) -> None:
    asked, begun = count(), []
    named = {"clock": passing(), "stop": lambda: next(asked) > 1, "started": begun.append}
    assert drive([job(load("squeezenet"))], database, **named) == []
    assert begun == []
