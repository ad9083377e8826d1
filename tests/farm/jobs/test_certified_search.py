"""Certified search on simulated devices: fewer stages than there are, and a gap that holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, Recorder, certificate, drive, job, recorded

from iosfarm.db import LatencyDatabase
from iosfarm.farm.executors.inline_executor import InlineExecutor
from iosfarm.farm.jobs.job import JobResult, SearchSettings
from iosfarm.farm.jobs.job_search import JobSearch
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.zoo.load import load

NETWORK = "googlenet"
"""Of 1261 stages: enough for statistics, few enough to measure them all."""

QUIET = "sim:v100?noise=0"
ZEROS = [Budget(stages=0), Budget(seconds=0)]


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the best schedule of the network takes, all stages measured without noise."""
    with LatencyDatabase(str(tmp_path_factory.mktemp("best") / "latency.db")) as database:
        (result,) = drive([job(load(NETWORK), device=QUIET, method=EXHAUSTIVE)], database)
    assert result.counts.measured == result.counts.stages
    return certificate(result).upper


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
