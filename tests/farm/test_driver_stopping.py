"""Searches that are stopped, or whose budget ends: nothing is lost, and what is known is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, SMALL, Recorder, drive, job, recorded

from iosfarm.db import LatencyDatabase
from iosfarm.farm.executors.executor import Outcome
from iosfarm.farm.interrupt import Interrupt
from iosfarm.farm.jobs.job import JobResult
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.solver import NoScheduleError
from iosfarm.zoo.load import load


def after(polls: int) -> Callable[[], bool]:
    """Says yes from the given question on."""
    left = iter(range(polls))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("method", [EXHAUSTIVE, Method(gap=0)], ids=lambda method: method.name)
@pytest.mark.parametrize("polls", range(14))
def test_stopped_at_any_moment_nothing_is_lost(
    database: LatencyDatabase, path: Path, polls: int, method: Method
) -> None:
    first = Recorder()
    quiet = job(device="sim:v100?noise=0", method=method)  # noise leaves a gap, however small
    results = drive([quiet], database, first, stop=after(polls), policy=SMALL)
    assert Counter(recorded(path)) == Counter(first.measured)
    for result in results:
        result.schedule.place(result.job.graph, result.device.layout)
        if result.interrupted:
            assert result.counts.left > 0
            assert result.counts.measured == len(first.measured)
            certificate = result.schedules["optimised"].certificate
            assert certificate is not None
            assert certificate.kind == "structural"
            assert certificate.lower <= certificate.upper
    second = Recorder()
    (complete,) = drive([quiet], database, second)
    assert not set(first.measured) & set(second.measured)
    assert complete.counts.found == len(first.measured)
    assert complete.counts.found + complete.counts.measured == len(first.measured) + len(second.measured)
    assert complete.schedules["optimised"].certificate.gap == 0  # type: ignore[union-attr]
    if method is EXHAUSTIVE:
        assert complete.counts.left == 0
        assert complete.schedules["optimised"].certificate.kind == "exhaustive"  # type: ignore[union-attr]


def test_some_stops_come_before_the_first_schedule_and_some_after(path: Path) -> None:
    # Otherwise the test above does not stop where it is meant to.
    for method in (EXHAUSTIVE, Method(gap=0)):
        outcomes = []
        for polls in (1, 8, 13):
            with LatencyDatabase(str(path.with_name(f"{method.name}-{polls}.db"))) as database:
                results = drive([job(method=method)], database, stop=after(polls), policy=SMALL)
                outcomes.append([r.interrupted for r in results])
        assert [] in outcomes
        assert [True] in outcomes


class Timed(Recorder):
    """Each task takes a second on its `clock`."""

    now = 0.0

    def wait(self, timeout: float) -> list[Outcome]:
        outcomes = super().wait(timeout)
        self.now += len(outcomes)
        return outcomes

    def clock(self) -> float:
        return self.now


def test_a_budget_ends_the_search_with_what_is_known(database: LatencyDatabase, path: Path) -> None:
    limits = {"budget": Budget(seconds=7.0), "method": EXHAUSTIVE}
    timed = Timed()
    jobs = [job(label="limited", **limits), job(load("sample"), method=EXHAUSTIVE)]
    limited, unlimited = drive(jobs, database, timed, policy=SMALL, clock=timed.clock)
    assert limited.interrupted
    assert limited.counts.left > 0
    assert limited.counts.measured > 0
    assert "the budget of 7 s ended the search" in limited.notes
    limited.schedule.place(limited.job.graph, limited.device.layout)
    # The other job goes on, and the limited one is timed end to end all the same.
    assert unlimited.counts.left == 0
    assert not unlimited.interrupted
    assert limited.latency("optimised") is not None
    assert limited.counts.measured + unlimited.counts.measured == len(recorded(path))


def test_a_budget_too_small_for_any_schedule_says_so(database: LatencyDatabase, path: Path) -> None:
    timed = Timed()
    with pytest.raises(NoScheduleError) as caught:
        drive([job(budget=Budget(seconds=1.0))], database, timed, policy=SMALL, clock=timed.clock)
    measured = len(recorded(path))
    assert str(caught.value) == (
        f"branches-sim-v100-b1-float32: no schedule yet: the budget of 1 s ended before {6 - measured} single units "
        "had been measured; raise the budget; what was measured is kept"
    )
    assert 0 < measured < 6  # what was under way when the budget ended


def test_a_signal_after_the_last_answer_interrupts_nothing(database: LatencyDatabase) -> None:
    interrupt = Interrupt()

    def finished(_: JobResult) -> None:
        interrupt.requested = True

    (result,) = drive([job()], database, finished=finished, stop=interrupt)
    assert not result.interrupted
    assert interrupt.requested
    assert not interrupt.heeded
