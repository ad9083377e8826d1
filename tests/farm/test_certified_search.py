"""Certified search on simulated devices: fewer stages than there are, a gap that holds, and budgets in stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, Failing, Recorder, branches, drive, job, recorded

from iosfarm.db import LatencyDatabase
from iosfarm.farm.executor import Outcome
from iosfarm.farm.inline_executor import InlineExecutor
from iosfarm.farm.job_search import JobSearch
from iosfarm.farm.jobs import JobResult, SearchSettings
from iosfarm.farm.policy import Policy
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.schedule import Certificate
from iosfarm.ir.stage import Stage
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.solver import NoScheduleError
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.zoo.load import load

NETWORK = "googlenet"
"""Of 1261 stages: enough for statistics, few enough to measure them all."""

QUIET = "sim:v100?noise=0"
ZEROS = [Budget(stages=0), Budget(seconds=0)]


@pytest.fixture
def database(path: Path) -> Iterator[LatencyDatabase]:
    with LatencyDatabase(str(path)) as database:
        yield database


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the best schedule of the network takes, all stages measured without noise."""
    with LatencyDatabase(str(tmp_path_factory.mktemp("best") / "latency.db")) as database:
        (result,) = drive([job(load(NETWORK), device=QUIET, method=EXHAUSTIVE)], database)
    assert result.counts.measured == result.counts.stages
    return certificate(result).upper


def certificate(result: JobResult) -> Certificate:
    found = result.schedules["optimised"].certificate
    assert found is not None
    return found


# -- what comes out ------------------------------------------------------------------------------------------------


def test_certified_is_the_default_and_measures_what_can_matter(database: LatencyDatabase, best: float) -> None:
    assert SearchSettings().method == Method("certified", 0.01, "statistical", 0.99)
    executor = Recorder()
    (result,) = drive([job(load(NETWORK), device=QUIET)], database, executor)
    counts, proof = result.counts, certificate(result)
    assert counts.measured == len(set(executor.measured)) == len(executor.measured)
    assert counts.measured < counts.stages / 2
    assert counts.left == counts.stages - counts.measured
    assert counts.rounds > 1
    assert not result.interrupted
    assert proof.kind == "statistical"
    assert proof.confidence == 0.99
    assert proof.gap <= 0.01
    assert proof.structural is not None
    assert proof.structural <= proof.lower <= best * (1 + 1e-9)
    assert best * (1 - 1e-9) <= proof.upper <= best * 1.01
    assert any("regression" in assumption for assumption in proof.assumptions)
    assert proof.audited > 0
    assert result.schedules["optimised"].predicted == pytest.approx(proof.upper)
    result.schedule.place(result.job.graph, result.device.layout)
    assert result.latency("optimised") is not None


def test_a_wider_gap_takes_fewer_stages_and_none_is_the_best(database: LatencyDatabase, best: float) -> None:
    (exact,) = drive([job(load(NETWORK), device=QUIET, method=Method(gap=0))], database)
    with LatencyDatabase("sqlite://") as other:
        (rough,) = drive([job(load(NETWORK), device=QUIET, method=Method(gap=0.3))], other)
    assert rough.counts.measured < exact.counts.measured < exact.counts.stages
    assert certificate(exact).upper == pytest.approx(best)
    assert certificate(exact).gap == pytest.approx(0, abs=1e-9)
    assert 0 < certificate(rough).gap <= 0.3
    assert certificate(rough).lower <= best * (1 + 1e-9)


def test_structural_bounds_alone(database: LatencyDatabase, best: float) -> None:
    method = Method(certificate="structural")
    (result,) = drive([job(load(NETWORK), device=QUIET, method=method)], database)
    proof = certificate(result)
    assert result.counts.measured < result.counts.stages
    assert proof.kind == "structural"
    assert proof.confidence is None
    assert proof.structural == proof.lower <= best * (1 + 1e-9)
    assert proof.gap <= 0.01
    assert not any("regression" in assumption for assumption in proof.assumptions)


def test_the_confidence_that_was_asked_for(database: LatencyDatabase) -> None:
    (result,) = drive([job(load(NETWORK), method=Method(confidence=0.9))], database)
    proof = certificate(result)
    assert (proof.kind, proof.confidence) == ("statistical", 0.9)
    assert any("0.9 " in assumption for assumption in proof.assumptions)


@pytest.mark.parametrize("device", ["sim:v100", "sim:k80"])
def test_a_second_search_measures_nothing(database: LatencyDatabase, path: Path, device: str) -> None:
    (first,) = drive([job(load(NETWORK), device=device)], database)
    known = recorded(path)
    executor = Recorder()
    (second,) = drive([job(load(NETWORK), device=device)], database, executor)
    assert executor.measured == executor.checked == []
    assert second.counts.found == first.counts.measured == len(known)
    assert second.schedules["optimised"].stages == first.schedules["optimised"].stages
    assert certificate(second).gap <= 0.01
    assert not second.interrupted


def test_devices_share_nothing(database: LatencyDatabase, path: Path) -> None:
    results = drive([job(load("squeezenet")), job(load("squeezenet"), device="sim:k80")], database)
    assert all(r.counts.found == 0 and r.counts.measured < r.counts.stages for r in results)
    assert all(certificate(r).gap <= 0.01 for r in results)
    assert sum(recorded(path).values()) == sum(r.counts.measured for r in results)


@pytest.mark.parametrize("second", [Method(), EXHAUSTIVE], ids=lambda method: method.name)
@pytest.mark.parametrize("first", [Method(), EXHAUSTIVE], ids=lambda method: method.name)
def test_jobs_that_share_stages_measure_each_once(database: LatencyDatabase, first: Method, second: Method) -> None:
    executor = Recorder()
    jobs = [
        job(load("squeezenet"), label="one", method=first),
        job(load("squeezenet"), label="two", method=second),
        job(load("squeezenet"), label="three", max_part_size=8),
    ]
    results = drive(jobs, database, executor)
    assert max(Counter(executor.measured).values()) == 1
    assert max(Counter(executor.checked).values()) == 1
    assert all(certificate(r).gap <= 0.01 and not r.interrupted for r in results)


# -- effort --------------------------------------------------------------------------------------------------------


def test_effort_goes_where_it_matters(database: LatencyDatabase) -> None:
    executor = Recorder()
    (result,) = drive([job(load("squeezenet"))], database, executor)
    baselines = {s.key for name in ("sequential", "greedy") for s in result.schedules[name].stages}
    first = {key: efforts[0] for key, efforts in executor.efforts.items()}
    assert {key for key, effort in first.items() if effort is Effort.NORMAL} == baselines
    assert {first[key] for key in first.keys() - baselines} == {Effort.QUICK}
    answer = {stage.key for stage in result.schedules["optimised"].stages}
    rows = {row.id: row for row in database.query(limit=10**6)}
    for stage in result.schedules["optimised"].stages:
        assert rows[stage.measurement or 0].n >= EFFORTS[Effort.CAREFUL].min_samples
    # Stages of schedules that are nearly as good are checked too; most need not be.
    assert answer <= set(executor.checked)
    assert len(executor.checked) == result.counts.checked < result.counts.measured / 2


def test_exhaustive_search_is_as_careful_with_all(database: LatencyDatabase) -> None:
    executor = Recorder()
    (result,) = drive([job(method=EXHAUSTIVE)], database, executor)
    assert {efforts[0] for efforts in executor.efforts.values()} == {Effort.NORMAL}
    assert {stage.key for stage in result.schedules["optimised"].stages} <= set(executor.checked)


def ok(key: str, seconds: float, samples: int) -> Measurement:
    return Measurement(key, Status.OK, (seconds,) * samples, rounds=samples)


def test_a_worse_measurement_never_replaces_a_better_one() -> None:
    executor = InlineExecutor()
    search = JobSearch(job(), executor.open("sim:v100")[0])
    executor.close()
    requests = search.next(1000)
    for number, key in enumerate(requests):
        search.tell(key, ok(key, 1e-3, 5), number, found=False)
    for key in search.next(1000):
        search.tell(key, ok(key, 1e-3, 3), 500, found=False)
    chosen = search.schedules()["optimised"].stages[0]
    for seconds, samples, number, used in [
        (9e-4, 20, 1001, 1001),
        (5e-4, 3, 1002, 1001),
        (5e-4, 20, 1003, 1001),
        (8e-4, 21, 1004, 1004),
    ]:
        search.tell(chosen.key, ok(chosen.key, seconds, samples), number, found=False)
        (stage,) = (s for s in search.schedules()["optimised"].stages if s.key == chosen.key)
        assert stage.measurement == used
    counts = search.counts()
    # That it cannot run here now does not make a latency untrue.
    search.tell(chosen.key, Measurement(chosen.key, Status.INFEASIBLE, reason="no memory"), 1005, found=False)
    assert search.counts() == counts
    assert counts.infeasible == 0


def test_regret_is_what_noise_can_have_cost(database: LatencyDatabase) -> None:
    noisy, quiet = drive([job(load("squeezenet")), job(load("squeezenet"), device=QUIET)], database)
    assert noisy.regret is not None
    assert 0 < noisy.regret < 0.005
    assert quiet.regret == 0
    (exhaustive,) = drive([job(load("squeezenet"), method=EXHAUSTIVE)], database)
    assert exhaustive.regret is not None
    assert 0 <= exhaustive.regret < 0.005


# -- budgets in stages ---------------------------------------------------------------------------------------------


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


# -- refinement ----------------------------------------------------------------------------------------------------


def test_an_answer_is_refined_within_limits(database: LatencyDatabase) -> None:
    assert SearchSettings().refine
    network = load("squeezenet")
    (plain,) = drive([job(network, device=QUIET)], database)
    executor = Recorder()
    (result,) = drive([job(network, device=QUIET, refine=True)], database, executor)
    # It begins where the search ends: with the same schedule, which the certificate is about.
    assert result.schedules["optimised"].stages == plain.schedules["optimised"].stages
    assert certificate(result).gap == pytest.approx(certificate(plain).gap)
    assert 0 < len(set(executor.measured)) <= max(24, 0.25 * plain.counts.measured)
    assert result.counts.found == plain.counts.measured
    result.schedule.place(network, result.device.layout)
    assert bool(result.won) == ("refined" in result.schedules)
    if "refined" in result.schedules:
        better, before = result.schedules["refined"].predicted, result.schedules["optimised"].predicted
        assert better is not None
        assert before is not None
        assert better < before
        assert all(won.after < won.before for won in result.won)
        result.schedules["refined"].place(network, result.device.layout)


def test_a_refinement_counts_for_the_budget(database: LatencyDatabase) -> None:
    network = load("squeezenet")
    drive([job(network)], database)
    executor = Recorder()
    drive([job(network, refine=True, budget=Budget(stages=7))], database, executor)
    assert len(set(executor.measured)) == 7


# -- what cannot be measured, and what cannot run ------------------------------------------------------------------


def is_large(stage: Stage) -> bool:
    return len(stage.groups) > 1 and int(stage.key, 16) % 4 == 0


@pytest.mark.parametrize("how", [Status.FAILED, Status.TIMEOUT, "crash"])
def test_stages_that_cannot_be_measured_are_searched_around(database: LatencyDatabase, how: str | Status) -> None:
    executor = Failing(lambda stage: how if is_large(stage) else None)
    (result,) = drive([job(load("squeezenet"))], database, executor)
    failed = {key for key, count in executor.attempts.items() if count >= Policy().attempts and int(key, 16) % 4 == 0}
    assert result.counts.failed > 0
    assert not failed & {stage.key for stage in result.schedules["optimised"].stages}
    assert sum(note.startswith("gave up on") for note in result.notes) == result.counts.failed
    # What they take at least still counts for the bound.
    proof = certificate(result)
    assert proof.kind != "exhaustive"
    assert 0 < proof.lower <= proof.upper
    again = Recorder()
    (mended,) = drive([job(load("squeezenet"))], database, again)
    assert set(again.measured) & failed
    assert certificate(mended).gap <= 0.01


def test_infeasible_stages_are_searched_around(database: LatencyDatabase) -> None:
    class Small(Recorder):
        """A device on which some stages cannot run."""

        def wait(self, timeout: float) -> list[Outcome]:
            return [replace(o, measurements=[self._spoil(m) for m in o.measurements]) for o in super().wait(timeout)]

        @staticmethod
        def _spoil(measurement: Measurement) -> Measurement:
            if measurement.stage_key not in infeasible:
                return measurement
            return Measurement(measurement.stage_key, Status.INFEASIBLE, reason="out of memory")

    network = load("squeezenet")
    with LatencyDatabase("sqlite://") as other:
        (usual,) = drive([job(network)], other)
    units = {stage.key for stage in usual.schedules["sequential"].stages}
    infeasible = {stage.key for stage in usual.schedules["optimised"].stages} - units
    assert infeasible
    (result,) = drive([job(network)], database, Small())
    assert result.counts.infeasible == len(infeasible)
    assert result.counts.failed == 0
    assert not infeasible & {stage.key for stage in result.schedules["optimised"].stages}
    assert certificate(result).gap <= 0.01
    assert not result.interrupted
    assert not any("gave up" in note for note in result.notes)


def test_a_dtype_that_the_device_lacks(database: LatencyDatabase) -> None:
    with pytest.raises(NoScheduleError, match=r"the unit '.*' cannot run on this device; no schedule exists"):
        drive([job(branches().bind(dtype="bfloat16"))], database)
    # That is a fact, and needs no measuring the next time, nor any budget.
    executor = Recorder()
    with pytest.raises(NoScheduleError, match=r"the unit '.*' cannot run on this device"):
        drive([job(branches().bind(dtype="bfloat16"), budget=Budget(stages=0))], database, executor)
    assert executor.measured == []


# -- with another device's latencies -------------------------------------------------------------------------------


def test_what_another_device_has_measured_gives_a_good_schedule_early(database: LatencyDatabase) -> None:
    target = "sim:h200?noise=0"
    few = job(load(NETWORK), device=target, budget=Budget(stages=69 + 50))  # 69 single units
    with LatencyDatabase("sqlite://") as empty:
        (alone,) = drive([few], empty)
    drive([job(load(NETWORK), device=QUIET)], database)
    executor = Recorder()
    (guided,) = drive([few], database, executor)
    assert guided.counts.measured == alone.counts.measured == len(executor.measured)
    assert predicted(guided) < 0.95 * predicted(alone)
    assert any("latencies transferred from sim:v100 Tesla V100" in note for note in guided.notes), guided.notes
    # None of them became a measurement, and no bound rests on one: the rest of the search is as without.
    rows = database.query(device="sim:h200")
    assert {row.stage_key for row in rows} == set(executor.measured)
    assert certificate(guided).gap > 0.01
    (whole,) = drive([job(load(NETWORK), device=target)], database)
    with LatencyDatabase("sqlite://") as empty:
        (exact,) = drive([job(load(NETWORK), device=target, method=EXHAUSTIVE)], empty)
    assert certificate(whole).lower <= predicted(exact) * (1 + 1e-9)
    assert predicted(whole) <= predicted(exact) * 1.01


def test_a_real_device_is_not_told_of_by_a_simulated_one(database: LatencyDatabase) -> None:
    drive([job(load(NETWORK), device=QUIET)], database)
    executor = InlineExecutor()
    (info,) = executor.open("cpu")
    keys = [row.stage_key for row in database.query()]
    executor.close()
    assert not database.comparable(keys, info.device, info.environment)


def predicted(result: JobResult) -> float:
    seconds = result.schedules["optimised"].predicted
    assert seconds is not None
    return seconds
