"""Stages that fail, that can never run, and dtypes that a device lacks: the search goes around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm_examples import Failing, Recorder, branches, certificate, drive, job

from iosfarm.db import LatencyDatabase
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.executors.executor import Outcome
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.stage import Stage
from iosfarm.search.budget import Budget
from iosfarm.search.solver import NoScheduleError
from iosfarm.zoo.load import load

NETWORK = "googlenet"
"""Of 1261 stages: enough for statistics, few enough to measure them all."""

QUIET = "sim:v100?noise=0"
ZEROS = [Budget(stages=0), Budget(seconds=0)]


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
