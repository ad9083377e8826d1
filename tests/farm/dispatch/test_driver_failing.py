"""Stages and networks that fail, compute something else, or that a device cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, Failing, Recorder, branches, drive, job, recorded

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.driver import Driver
from iosfarm.farm.executors.executor import Outcome
from iosfarm.farm.jobs.job import JobResult
from iosfarm.farm.schedules.schedule_file import document
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory
from iosfarm.ir.measurement import Status
from iosfarm.ir.stage import Stage
from iosfarm.kernels import open_runtime
from iosfarm.search.method import Method
from iosfarm.search.solver import NoScheduleError


def is_pool_alone(stage: Stage) -> bool:
    return [operator.kind for operator in stage.operators] == ["max_pool"]


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
        patch.setattr("iosfarm.farm.executors.inline_executor.InlineExecutor", lambda: executor)
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
