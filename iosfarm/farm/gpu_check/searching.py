"""Searches of whole networks, and what their schedules are measured against."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from iosfarm.farm.api import open_executor, run_jobs
from iosfarm.farm.executors.executor import Executor
from iosfarm.farm.gpu_check.context import Context
from iosfarm.farm.gpu_check.rows import Value
from iosfarm.farm.jobs.job import Job, JobResult, SearchSettings
from iosfarm.ir.schedule import STAGES
from iosfarm.search.budget import Budget
from iosfarm.search.solver import NoScheduleError
from iosfarm.search.space import SpaceSettings
from iosfarm.workers.evaluating import EvaluationSettings
from iosfarm.zoo import load

SEARCHES = {"both": ("concurrent", "merge"), "concurrent": ("concurrent",), "merge": ("merge",)}
"""The most important one first: the others find most of their stages measured."""

SHARE = {"both": 0.5, "concurrent": 0.3, "merge": 0.3}
"""Of the time that is left: of each search, its comparison end to end included."""

AGAIN = 0.6
"""Of the time that is left after the first search, for the same once more, should its time have ended before it had."""

LEAST = 3.0
"""Seconds without which a search is not begun."""

EVALUATION = EvaluationSettings(rounds=20, max_rounds=60, seconds=4.0)


def section(model: str) -> Callable[[Context], None]:
    """The section of a network."""
    return partial(run, model=model)


def run(context: Context, *, model: str) -> None:
    """Search a network three ways, and measure what is launched without a graph.

    The worker is a process of its own: a stage that ends it, or spoils its hold on the GPU, does not end the search.
    """
    with open_executor("process") as executor:
        _searches(context, model, executor)
    for name, measured in _eager(context, model).items():
        context.rows.add(model=model, baseline=name, **measured)


def _searches(context: Context, model: str, executor: Executor) -> None:
    baselines = context.left * 0.15
    shares = list(SHARE.items())
    while shares:
        name, share = shares.pop(0)
        seconds = (context.left - baselines) * share
        if seconds < LEAST:
            if share != AGAIN:
                context.rows.add(model=model, search=name, skipped="no time left")
            continue
        ended = _tried(context, model, executor, name, seconds)
        if name == "both" and share != AGAIN and not ended:
            # What was measured is kept: choosing among all stages says more than choosing among some in time.
            shares.insert(0, (name, AGAIN))


def _tried(context: Context, model: str, executor: Executor, name: str, seconds: float) -> bool:
    """Whether a search came to its end; one for which the time is too short for any schedule is told, and no more."""
    try:
        return _search(context, model, executor, name, SEARCHES[name], seconds)
    except NoScheduleError as error:
        context.rows.add(model=model, search=name, failed=" ".join(str(error).split())[:300])
        return False


def _search(
    context: Context, model: str, executor: Executor, name: str, strategies: tuple[str, ...], seconds: float
) -> bool:
    settings = SearchSettings(SpaceSettings(strategies=strategies), budget=Budget(seconds=0.75 * seconds))
    begin = time.monotonic()
    job = Job(model, load(model), context.device, settings)
    (saved,) = run_jobs(
        [job],
        database=context.database,
        executor=executor,
        out=context.folder / "schedules" / name,
        evaluation=EVALUATION,
    )
    _tell(context, name, saved.result, time.monotonic() - begin)
    return not saved.result.interrupted


def _tell(context: Context, name: str, result: JobResult, seconds: float) -> None:
    certificate = result.schedules["optimised"].certificate
    counts = result.counts
    context.rows.add(
        model=result.job.label, search=name, chosen=result.chosen, seconds=seconds, interrupted=result.interrupted,
        stages=counts.stages, found=counts.found, measured=counts.measured, failed=counts.failed,
        infeasible=counts.infeasible, gap=certificate.gap if certificate and certificate.lower > 0 else None,
        seconds_a_stage=seconds / counts.measured if counts.measured else None, notes=list(result.notes),
    )  # fmt: skip
    for schedule, measurement in result.latencies.items():
        same = result.schedules.get(schedule)
        # What stages take one after the other says nothing of a schedule without barriers.
        predicted = same.predicted if same is not None and same.form == STAGES else None
        error = result.errors.get(schedule)
        row: dict[str, Value] = {
            "median": measurement.median,
            "mad": measurement.mad,
            "samples": len(measurement.samples),
            "predicted": predicted,
            "sum_over_whole": predicted / measurement.median if predicted else None,
            "error": error if error is not None and error < float("inf") else None,
        }
        context.rows.add(model=result.job.label, search=name, schedule=schedule, **row)


def _eager(context: Context, model: str) -> dict[str, dict[str, Value]]:
    """The sequential schedule launched call by call: what a framework without graphs does."""
    from contextlib import closing

    from iosfarm.kernels import open_runtime
    from iosfarm.search.baselines import sequential
    from iosfarm.search.parts import cut
    from iosfarm.workers.random_weights import random_weights

    graph = load(model)
    if not context.device.startswith("cuda"):
        return {}
    with closing(open_runtime(context.spec(timing="streams"))) as runtime:
        schedule = sequential(graph, cut(graph), runtime.layout)
        with runtime.prepare_schedule(graph, schedule, random_weights(graph)) as executable:
            executable.time(3)
            samples = sorted(executable.time(30))
    return {"sequential eager": {"median": samples[len(samples) // 2], "samples": len(samples)}}
