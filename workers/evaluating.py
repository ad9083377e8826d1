"""Whole schedules on a device: their numbers against float64, their latencies side by side."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from iosfarm.ir.device import Environment
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.schedule import STAGES, Schedule
from iosfarm.kernels.runtime import Array, Executable, Weights
from iosfarm.workers.measuring import relative_median_error

TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest error of a network, by dtype, relative to the largest absolute value of float64's result."""


def tolerance(dtype: str, environment: Environment) -> float:
    """Of `TOLERANCES`, in an environment: TF32 keeps as many bits of float32's factors as float16 has."""
    rounded = dtype == "float32" and environment.hard.get("precision") == "tf32"
    return TOLERANCES["float16" if rounded else dtype]


@dataclass(frozen=True)
class EvaluationSettings:
    """rounds: samples of each schedule, taken in turns: at least so many, then more until the medians are known to
    `precision` (relative standard error), for max_rounds and about `seconds` at most. warmup: executions before. check:
    compare numbers.
    """

    rounds: int = 10
    max_rounds: int = 60
    precision: float = 0.005
    seconds: float = 5.0
    warmup: int = 2
    check: bool = True


@dataclass(frozen=True)
class Evaluation:
    """Of each schedule by name: its end-to-end samples, and its largest relative error (None: not checked)."""

    latencies: Mapping[str, Measurement]
    errors: Mapping[str, float | None]


def evaluate(
    prepare: Callable[[Schedule], Executable],
    graph: Graph,
    schedules: Mapping[str, Schedule],
    weights: Weights,
    settings: EvaluationSettings,
    seed: int = 0,
) -> Evaluation:
    """Execute schedules of one graph, interleaved, so that a slow moment of the machine hits all alike.

    prepare: makes a schedule's executable, which is closed in the end. Inputs are standard normal, from `seed`. The
    reference is float64, computed by torch, operator after operator.
    """
    errors: dict[str, float | None] = dict.fromkeys(schedules)
    with ExitStack() as stack:
        # Equal schedules (greedy is often the best one) are executed once.
        first: dict[object, str] = {}
        same = {name: first.setdefault(_identity(schedule), name) for name, schedule in schedules.items()}
        executables = {name: stack.enter_context(prepare(schedules[name])) for name in first.values()}
        if settings.check:
            from iosfarm.kernels.reference import run_graph

            generator = np.random.default_rng(seed)
            inputs = [generator.standard_normal(graph.shape(i.name)).astype(np.float32) for i in graph.inputs]
            expected = run_graph(graph, weights, inputs)
            for name, executable in executables.items():
                errors[name] = relative_error(executable.run(*inputs), expected)
        names = list(executables)
        samples: dict[str, list[float]] = {name: [] for name in names}
        for executable in executables.values():
            executable.time(settings.warmup)
        began = time.monotonic()
        rounds = 0
        while rounds < settings.rounds or (
            rounds < settings.max_rounds
            and time.monotonic() - began < settings.seconds
            and max(map(relative_median_error, samples.values())) > settings.precision
        ):
            # The order turns, so that no schedule always runs after the same other one.
            for step in range(len(names)):
                name = names[(rounds + step) % len(names)]
                # The first of a pair finds the caches as the schedule before left them, and is not counted.
                samples[name].append(executables[name].time(2)[-1])
            rounds += 1
    latencies = {
        name: Measurement(schedule_key(schedule), Status.OK, tuple(samples[same[name]]), rounds=rounds)
        for name, schedule in schedules.items()
    }
    return Evaluation(latencies, {name: errors[same[name]] for name in schedules})


def relative_error(actual: list[Array], expected: list[Array]) -> float:
    """max |actual - expected| / max |expected| over all outputs; infinite where a number is not finite on either side,
    or a shape differs.
    """
    worst = 0.0
    for ours, theirs in zip(actual, expected, strict=True):
        a, e = ours.astype(np.float64), theirs.astype(np.float64)
        if a.shape != e.shape or not (np.isfinite(a).all() and np.isfinite(e).all()):
            return float("inf")
        worst = max(worst, float(np.abs(a - e).max()) / (float(np.abs(e).max()) or 1.0))
    return worst


def _identity(schedule: Schedule) -> object:
    return schedule.form, tuple((stage.strategy, stage.groups) for stage in schedule.stages)


def schedule_key(schedule: Schedule) -> str:
    """The keys of a schedule's stages, and its form, as one."""
    keys = [stage.key for stage in schedule.stages]
    form = [] if schedule.form == STAGES else [schedule.form]
    return hashlib.sha256("".join([*keys, *form]).encode()).hexdigest()
