"""Schedules in another form than stage after stage: which is chosen, and what the file says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import iosfarm
from iosfarm.farm.jobs.job import Job
from iosfarm.farm.jobs.verdict import fastest
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels.sim.runtime import SimExecutable, SimRuntime
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut
from iosfarm.workers.evaluating import schedule_key

FASTER = {"stages": 1.0, "free": 0.9, "free-critical": 0.95}


@pytest.mark.parametrize(("free", "chosen"), [(0.9, "free"), (0.999, "optimised"), (1.2, "optimised")])
def test_a_form_has_to_measure_better(free: float, chosen: str) -> None:
    assert fastest({"sequential": 2.0, "greedy": 1.5, "optimised": 1.0, "free": free}) == chosen
    assert fastest({"sequential": 2.0, "greedy": 1.5, "optimised": 1.1, "refined": 1.0, "free": free}) == (
        "free" if chosen == "free" else "refined"
    )


def test_forms_have_keys_of_their_own() -> None:
    graph = iosfarm.load("sample")
    schedule = sequential(graph, cut(graph), "nhwc")
    assert schedule_key(schedule) == schedule_key(replace(schedule, form="stages"))
    assert len({schedule_key(replace(schedule, form=form)) for form in FASTER}) == len(FASTER)


def test_the_fastest_form_is_saved_and_all_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A simulated device that is faster without barriers, as a GPU can be."""
    real = SimRuntime.prepare_schedule

    def prepare(self: SimRuntime, graph: iosfarm.Graph, schedule: Schedule, weights: object) -> SimExecutable:
        executable = real(self, graph, schedule, weights)  # type: ignore[arg-type]
        executable.seconds *= FASTER[schedule.form]
        return executable

    monkeypatch.setattr(SimRuntime, "forms", tuple(FASTER))
    monkeypatch.setattr(SimRuntime, "prepare_schedule", prepare)
    from iosfarm.farm.api import run_jobs

    job = Job("sample", iosfarm.load("sample"), "sim:v100?noise=0")
    database = str(tmp_path / "latency.db")
    (saved,) = run_jobs([job], database=database, executor="inline", out=tmp_path)
    assert saved.result.chosen == "free"
    assert saved.path is not None
    content, _ = load(saved.path)
    assert (content.chosen, content.form, content.schedule().form) == ("free", "free", "free")
    assert set(content.latencies) >= {"sequential", "greedy", "optimised", "free", "free-critical"}
    assert any("without barriers between stages (free): 10.0% faster" in note for note in content.notes)
    (again,) = run_jobs([job], database=database, executor="inline")
    assert again.result.schedule == saved.result.schedule
