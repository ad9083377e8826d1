"""Whole networks that were run before: the same search again need not run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, Recorder, branches, job

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.jobs.job import Job, JobResult
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.zoo.load import load
from iosfarm.zoo.weights import random_weights


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], tuple[JobResult, Recorder]]:
    """Searches as a user does: what comes out is recorded."""

    def run(wanted: Job) -> tuple[JobResult, Recorder]:
        executor = Recorder()
        monkeypatch.setattr("iosfarm.farm.executors.inline_executor.InlineExecutor", lambda: executor)
        (saved,) = run_jobs([wanted], database=str(tmp_path / "latency.db"), executor="inline")
        return saved.result, executor

    return run


Run = Callable[[Job], tuple[JobResult, Recorder]]


def test_the_same_search_again_runs_nothing(run: Run) -> None:
    first, executor = run(job())
    assert executor.evaluated == [["sequential", "greedy", "optimised"]]
    second, again = run(job())
    assert again.evaluated == again.measured == again.checked == []
    assert {n: m.samples for n, m in second.latencies.items()} == {n: m.samples for n, m in first.latencies.items()}
    assert (second.chosen, second.speedup) == (first.chosen, first.speedup)
    # However it came to these schedules, and with no budget at all.
    other, third = run(job(method=EXHAUSTIVE))
    assert third.evaluated == []
    assert other.measured
    free, fourth = run(job(budget=Budget(stages=0)))
    assert fourth.evaluated == []
    assert free.measured
    assert not free.interrupted
    assert free.notes == second.notes


def test_other_weights_are_another_run(run: Run) -> None:
    run(job())
    for changed in (replace(job(), seed=1), replace(job(), weights=random_weights(branches(), 1))):
        _, executor = run(changed)
        assert executor.measured == []
        assert len(executor.evaluated) == 1


def test_another_schedule_is_another_run(run: Run, tmp_path: Path) -> None:
    network = load("squeezenet")
    limited, first = run(job(network, budget=Budget(stages=50)))
    complete, second = run(job(network, method=Method(gap=0)))
    assert len(first.evaluated) == len(second.evaluated) == 1
    assert limited.schedule != complete.schedule
    with LatencyDatabase(str(tmp_path / "latency.db"), readonly=True) as database:
        states = [str(row.state) for row in reversed(database.searches())]
        settings = [row.settings for row in reversed(database.searches())]
    assert states == ["interrupted", "finished"]
    assert [s["budget_stages"] for s in settings] == [50, None]
    assert [s["gap"] for s in settings] == [0.01, 0]


def test_what_refining_has_won_counts_without_a_budget_and_after_other_searches(run: Run) -> None:
    network = load("squeezenet")

    def refined(**settings: object) -> Job:
        return job(network, method=Method(gap=0), refine=True, **settings)

    first, _ = run(refined())
    assert first.won
    # More searches than are read at once, none of which is the one to remember.
    for seed in range(1, 5):
        run(replace(job(network, budget=Budget(stages=0)), seed=seed))
    second, executor = run(refined(budget=Budget(seconds=0)))
    assert executor.measured == executor.checked == executor.evaluated == []
    assert second.won == first.won
    assert second.schedule == first.schedule


def test_the_run_says_what_the_certificate_says(run: Run, tmp_path: Path) -> None:
    result, _ = run(job(load("squeezenet"), method=EXHAUSTIVE))
    certificate = result.schedules["optimised"].certificate
    assert certificate is not None
    with LatencyDatabase(str(tmp_path / "latency.db"), readonly=True) as database:
        assert database.runs()[0].summary.gap == certificate.gap == 0
