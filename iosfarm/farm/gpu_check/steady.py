"""The same stages at the start and at the end of the check, and the same stage prepared twice (A/A)."""

from __future__ import annotations

import statistics
from contextlib import closing

from iosfarm.db import LatencyDatabase
from iosfarm.farm.gpu_check.context import Context
from iosfarm.ir.key import StageFactory
from iosfarm.ir.stage import Stage
from iosfarm.kernels import open_runtime
from iosfarm.kernels.steady import reference_stage
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.parts import cut
from iosfarm.workers.conditions import read_conditions
from iosfarm.workers.measuring import measure
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.zoo import load

COUNT = 12
"""Stages, half of them of one group."""


def run(context: Context) -> None:
    """Measure the stages with care, and record them."""
    with closing(open_runtime(context.device)) as runtime:
        stages = [reference_stage(runtime.layout), *some_stages(context.models[0], runtime.layout)]
        device, environment = runtime.fingerprint()
        settings = EFFORTS[Effort.CAREFUL]
        read = getattr(runtime, "conditions", read_conditions)
        with LatencyDatabase(context.database) as memory:
            for stage, measurement in zip(stages, measure(runtime, stages, settings, conditions=read), strict=True):
                memory.record([(stage.summary, measurement)], device, environment)
                context.rows.add(
                    stage=stage.describe(),
                    key=stage.key,
                    status=measurement.status.value,
                    median=measurement.median if measurement.ok else None,
                    mad=measurement.mad if measurement.ok else None,
                    samples=len(measurement.samples),
                    reason=measurement.reason,
                    conditions=dict(measurement.conditions),
                )
        if context.left > 3:
            with runtime.prepare(stages[1]) as one, runtime.prepare(stages[1]) as other:
                pairs = [(statistics.fmean(one.time(4)), statistics.fmean(other.time(4))) for _ in range(15)]
            first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
            context.rows.add(a_a=stages[1].describe(), first=first, second=second, ratio=second / first)


def some_stages(model: str, layout: str) -> list[Stage]:
    """Stages of a network's baselines, evenly spread."""
    graph = load(model)
    factory = StageFactory(graph, layout)
    index = {unit.name: number for number, unit in enumerate(graph.units)}
    parts = cut(graph)
    result: dict[str, Stage] = {}
    for schedule in (sequential(graph, parts, layout), greedy(graph, parts, layout)):
        chosen = [s for s in schedule.stages if len(s.groups) > 1] or list(schedule.stages)
        for scheduled in chosen[:: max(1, len(chosen) // (COUNT // 2))][: COUNT // 2]:
            groups = [[index[name] for name in group] for group in scheduled.groups]
            stage = factory.make(groups, scheduled.strategy).stage
            result[stage.key] = stage
    return list(result.values())
