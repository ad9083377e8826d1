"""Operators and whole networks of the zoo against float64: every provider, precision and dtype."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np

from iosfarm.farm.gpu_check.context import Context
from iosfarm.ir.errors import DeviceLost, Infeasible, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory
from iosfarm.ir.stage import Stage
from iosfarm.kernels import open_runtime
from iosfarm.kernels.reference import run_graph, run_stage
from iosfarm.kernels.runtime import Runtime
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.parts import cut
from iosfarm.workers.evaluating import relative_error
from iosfarm.workers.random_weights import random_weights
from iosfarm.zoo import load

LIMITS = {"ieee": 1e-5, "tf32": 1e-3, "float16": 1e-2, "bfloat16": 1e-2}
"""Largest error of a stage relative to the largest number of float64's result."""

VARIANTS = (
    ("cudnn", "ieee", "float32"),
    ("cudnn", "tf32", "float32"),
    ("cudnn", "ieee", "float16"),
    ("cudnn", "ieee", "bfloat16"),
    ("iosfarm", "ieee", "float32"),
    ("iosfarm", "tf32", "float32"),
    ("iosfarm", "ieee", "float16"),
    ("iosfarm", "ieee", "bfloat16"),
)
NETWORKS = ("squeezenet", "inception_v3", "randwire", "nasnet_large", "resnet18")
LARGEST = 2e9
"""Floating-point operations of a stage beyond which float64 on the host takes too long."""


def operators(context: Context) -> None:
    """Each kind of unit of the networks, in as many shapes as there is time for."""
    stages = list(_distinct_units())
    for position, (provider, precision, dtype) in enumerate(VARIANTS):
        share = context.left / (len(VARIANTS) - position)
        _variant(context, stages, provider, precision, dtype, share)


def networks(context: Context) -> None:
    """Whole networks in both baselines' schedules and in every form that the runtime has."""
    with closing(open_runtime(context.device)) as runtime:
        for name in context.models:
            if context.left < 5:
                break
            _network(context, runtime, load(name))


def _network(context: Context, runtime: Runtime, graph: Graph) -> None:
    parts = cut(graph)
    weights = random_weights(graph)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(graph.shape(i.name)).astype(np.float32) for i in graph.inputs]
    expected = run_graph(graph, weights, inputs)
    schedules = {"sequential": sequential(graph, parts, runtime.layout), "greedy": greedy(graph, parts, runtime.layout)}
    for name, schedule in schedules.items():
        for form in runtime.forms:
            row = {"network": graph.name, "schedule": name, "form": form}
            try:
                with runtime.prepare_schedule(graph, replace(schedule, form=form), weights) as executable:
                    error = relative_error(executable.run(*inputs), expected)
            except DeviceLost:
                raise
            except Exception as failure:  # whatever it is, the others count all the same
                context.rows.add(**row, failed=_said(failure))
                continue
            context.rows.add(**row, error=_number(error))


def _variant(
    context: Context, stages: list[tuple[str, Stage]], provider: str, precision: str, dtype: str, seconds: float
) -> None:
    begin = time.monotonic()
    worst: dict[str, tuple[float, str]] = {}
    tried, refused = 0, 0
    try:
        runtime = open_runtime(context.spec(provider=provider, precision=precision))
    except UsageError as missing:
        context.rows.add(provider=provider, precision=precision, dtype=dtype, skipped=str(missing))
        return
    rng = np.random.default_rng(1)
    with closing(runtime):
        for kind, stage in stages:
            if time.monotonic() - begin > seconds:
                break
            bound = Stage.from_json(stage.canonical.replace('"dtype":"float32"', f'"dtype":"{dtype}"'))
            inputs = [rng.standard_normal(shape).astype(np.float32) for shape in bound.inputs]
            weights = _weights(bound, rng)
            try:
                with runtime.prepare(bound, weights) as executable:
                    actual = executable.run(*inputs)
            except Infeasible:
                refused += 1
                continue
            except DeviceLost:
                context.rows.add(provider=provider, precision=precision, dtype=dtype, lost=stage.describe())
                raise
            except Exception as failure:  # whatever it is, the others count all the same
                worst[kind] = float("inf"), f"{stage.describe()}: {_said(failure)}"
                continue
            error = relative_error(actual, run_stage(bound, weights, inputs))
            tried += 1
            if not error < worst.get(kind, (-1.0, ""))[0]:
                worst[kind] = error, stage.describe()
        fallbacks = getattr(runtime, "fallbacks", 0)
    limit = LIMITS[dtype if dtype != "float32" else precision]
    for kind, (error, what) in sorted(worst.items()):
        context.rows.add(
            provider=provider, precision=precision, dtype=dtype, kind=kind, error=_number(error),
            within=error <= limit, limit=limit, worst=what,
        )  # fmt: skip
    context.rows.add(
        provider=provider, precision=precision, dtype=dtype, stages=tried, refused=refused, fallbacks=fallbacks
    )


def _distinct_units() -> Iterator[tuple[str, Stage]]:
    """Single units of the networks, each once, kinds in turn, so that a short time still meets all kinds."""
    by_kind: dict[str, list[Stage]] = {}
    seen: set[str] = set()
    for name in NETWORKS:
        graph = load(name)
        factory = StageFactory(graph, "nhwc")
        for unit in range(len(graph.units)):
            placed = factory.make([[unit]])
            if placed.key in seen or sum(placed.stage.flops(o) for o in placed.stage.operators) > LARGEST:
                continue
            seen.add(placed.key)
            operators = [o.kind for o in placed.stage.operators]
            by_kind.setdefault("+".join(operators), []).append(placed.stage)
    while any(by_kind.values()):
        for kind, stages in by_kind.items():
            if stages:
                yield kind, stages.pop(0)


def _weights(stage: Stage, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    result = []
    for operator in stage.operators:
        values = {}
        for name, shape in stage.parameters(operator).items():
            scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 1.0
            values[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
            if name == "running_var":
                values[name] = np.abs(values[name]) + np.float32(0.5)
        result.append(values)
    return result


def _said(failure: Exception) -> str:
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"


def _number(error: float) -> float | str:
    """JSON has no infinity."""
    return error if np.isfinite(error) else "not finite"
