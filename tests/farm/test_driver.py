"""The farm's loop on simulated devices: what is measured, what is recorded, what comes out."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, Failing, Recorder, branches, drive, job, paper_space, recorded

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.driver import Driver
from iosfarm.farm.executor import Outcome
from iosfarm.farm.jobs import JobResult
from iosfarm.farm.policy import Policy
from iosfarm.farm.schedule_file import document
from iosfarm.farm.verdict import fastest
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory
from iosfarm.ir.measurement import Status
from iosfarm.ir.stage import Stage
from iosfarm.kernels import open_runtime
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.parts import cut
from iosfarm.search.solver import NoScheduleError, solve
from iosfarm.workers.failures import Failure
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.zoo.load import load


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "latency.db"


@pytest.fixture
def database(path: Path) -> Iterator[LatencyDatabase]:
    with LatencyDatabase(str(path), timeout=0.2) as database:
        yield database


SMALL = Policy(most_simulated_stages=2)
"""Tasks of two stages, so that much can happen between two of them."""


def is_pool_alone(stage: Stage) -> bool:
    return [operator.kind for operator in stage.operators] == ["max_pool"]


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


# -- stopping ------------------------------------------------------------------------------------------------------


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


# -- failing -------------------------------------------------------------------------------------------------------


def test_a_stage_that_fails_once_is_tried_again(database: LatencyDatabase) -> None:
    executor = Failing(lambda stage: None)
    executor.fails = lambda stage: Status.FAILED if not executor.attempts.get(stage.key) else None
    (result,) = drive([job(method=EXHAUSTIVE)], database, executor)
    assert set(executor.attempts.values()) == {2}
    assert result.counts.failed == 0
    assert result.counts.measured == result.counts.stages
    assert result.schedules["optimised"].certificate.kind == "exhaustive"  # type: ignore[union-attr]


@pytest.mark.parametrize("how", [Status.FAILED, Status.TIMEOUT, Status.QUARANTINED, "crash"])
def test_a_stage_that_always_fails_is_given_up_and_named(
    database: LatencyDatabase, path: Path, how: str | Status
) -> None:
    executor = Failing(lambda stage: how if stage.strategy == "merge" else None)
    (result,) = drive([job(method=EXHAUSTIVE)], database, executor)
    tried = Policy().attempts + (how == "crash")  # the first time in company, which proves nothing
    merges = {key for key, count in executor.attempts.items() if count == tried}
    assert result.counts.failed == len(merges) == 1
    assert result.counts.measured == result.counts.stages - 1
    assert result.counts.left == result.counts.infeasible == 0
    assert not any(stage.strategy == "merge" for stage in result.schedules["optimised"].stages)
    certificate = result.schedules["optimised"].certificate
    assert certificate is not None
    assert certificate.kind == "structural"
    assert 0 < certificate.lower <= certificate.upper < float("inf")
    assert certificate.assumptions
    (note,) = (note for note in result.notes if note.startswith("gave up"))
    assert "merge" in note
    assert ("it broke" in note) or ("the worker died" in note)
    # A failure is recorded as what it is, each time, and is no latency.
    rows = [row for row in database.query() if row.stage_key in merges]
    assert len(rows) == Policy().attempts
    assert {row.status for row in rows} == {Status.FAILED if how == "crash" else how}
    assert all(row.median is None for row in rows)
    assert not merges & recorded(path).keys()
    # The next search tries it again.
    again = Recorder()
    (mended,) = drive([job(method=EXHAUSTIVE)], database, again)
    assert set(again.measured) == merges
    assert mended.schedules["optimised"].certificate.kind == "exhaustive"  # type: ignore[union-attr]


@pytest.mark.parametrize("method", [EXHAUSTIVE, Method()], ids=lambda method: method.name)
def test_a_unit_that_cannot_be_measured_alone_is_routed_around(database: LatencyDatabase, method: Method) -> None:
    executor = Failing(lambda stage: Status.FAILED if is_pool_alone(stage) else None)
    (result,) = drive([job(method=method)], database, executor)
    assert result.counts.failed == 1
    # The sequential schedule needs it, and is neither predicted nor run.
    assert result.schedules["sequential"].predicted is None
    assert "sequential" not in result.latencies
    assert result.chosen in ("greedy", "optimised")
    assert result.speedup is None
    result.schedule.place(result.job.graph, result.device.layout)


def test_where_everything_fails_there_is_no_schedule(database: LatencyDatabase) -> None:
    executor = Failing(lambda stage: "crash")
    with pytest.raises(NoScheduleError, match="single units were not measured"):
        drive([job()], database, executor)
    assert max(executor.attempts.values()) == Policy().attempts + 1
    assert {row.status for row in database.query()} == {Status.FAILED}


def test_a_failed_evaluation_is_a_note(database: LatencyDatabase) -> None:
    (result,) = drive([job()], database, Failing(lambda stage: None, evaluation="the worker died: killed"))
    assert result.chosen == "optimised"
    assert result.latencies == {}
    assert result.notes == ("not measured end to end: the worker died: killed",)
    assert result.speedup is not None  # the predicted one


class Miscomputing(Recorder):
    """Says of some schedules that their numbers are off by so much."""

    def __init__(self, errors: Mapping[str, float]) -> None:
        super().__init__()
        self.errors = errors

    def wait(self, timeout: float) -> list[Outcome]:
        outcomes = super().wait(timeout)
        return [replace(o, evaluation=o.evaluation and replace(o.evaluation, errors=self.errors)) for o in outcomes]


def test_a_schedule_that_computes_wrong_numbers_is_not_chosen(database: LatencyDatabase) -> None:
    errors = {"sequential": 1e-6, "greedy": 1e-5, "optimised": float("inf")}
    (result,) = drive([job()], database, Miscomputing(errors))
    assert result.latency("optimised") is not None
    assert result.latency("sequential") is not None
    assert result.chosen in ("sequential", "greedy")
    assert result.notes == ("wrong numbers from optimised: off by inf, more than 1e-04",)
    assert result.wrong_numbers
    assert document(result).latencies["optimised"].relative_error > 1e300  # type: ignore[operator]


def test_wrong_numbers_are_looked_at_again(path: Path) -> None:
    wrong = {"sequential": 1e-6, "greedy": 1e-5, "optimised": 1.0}
    for executor, chosen in ((Miscomputing(wrong), False), (Recorder(), True)):
        (saved,) = run_with(executor, path)
        assert (saved.chosen == "optimised") == chosen


def run_with(executor: Recorder, path: Path) -> list[JobResult]:
    """As a user's search does it: what comes out is recorded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iosfarm.farm.inline_executor.InlineExecutor", lambda: executor)
        return [saved.result for saved in run_jobs([job()], database=str(path), executor="inline")]


# -- what the device cannot do -------------------------------------------------------------------------------------


def wide() -> Graph:
    """Four convolutions of 4.3 GB each: any three fit into the 16 GB of a simulated V100, all four do not."""
    b = GraphBuilder("wide")
    x = b.input((3, 8192, 8192), name="input")
    pools = []
    for name in "abcd":
        with b.unit(name):
            pools.append(b.global_avg_pool(b.conv2d(x, 16, 1)))
    with b.unit("join"):
        y = b.concat(*pools)
    return b.build(y)


def test_an_infeasible_stage_is_routed_around(database: LatencyDatabase) -> None:
    (result,) = drive([job(wide(), method=EXHAUSTIVE)], database)
    assert result.counts.infeasible > 0
    assert result.counts.failed == 0
    optimised = result.schedules["optimised"]
    assert all(len(stage.groups) < 4 for stage in optimised.stages)
    assert optimised.certificate is not None
    assert optimised.certificate.kind == "exhaustive"  # it is known that the stage cannot run
    assert result.schedules["greedy"].predicted is None
    assert "greedy" not in result.latencies
    # An infeasible stage is a fact, and found like any other.
    (again,) = drive([job(wide(), method=EXHAUSTIVE)], database)
    assert again.counts.found == again.counts.stages
    assert again.counts.infeasible == result.counts.infeasible


def test_an_infeasible_unit_is_named_and_other_jobs_are_finished_before(database: LatencyDatabase, path: Path) -> None:
    b = GraphBuilder("enormous")
    x = b.input((64, 64, 64), name="input")
    with b.unit("small"):
        y = b.conv2d(x, 64, 1)
    with b.unit("huge"):
        y = b.global_avg_pool(b.resize(y, (16384, 16384)))
    finished: list[str] = []
    executor = Recorder()
    driver = Driver(
        [job(b.build(y)), job()], database, executor, finished=lambda result: finished.append(result.job.label)
    )
    with pytest.raises(NoScheduleError, match=r"^enormous: the unit 'huge' cannot run on this device"):
        driver.run()
    assert finished == ["branches"]
    assert set(executor.measured) == recorded(path).keys()


def test_a_dtype_that_the_device_lacks(database: LatencyDatabase) -> None:
    with pytest.raises(NoScheduleError, match=r"the unit '.*' cannot run on this device"):
        drive([job(branches().bind(dtype="bfloat16"))], database)


def test_infeasible_on_the_device_means_infeasible_in_the_runtime() -> None:
    # The tests above rest on it.
    with pytest.raises(Infeasible):
        open_runtime("sim:v100").prepare(StageFactory(wide(), "nhwc").make([[0], [1], [2], [3]]).stage)


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
