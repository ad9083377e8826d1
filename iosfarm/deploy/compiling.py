"""`iosfarm.compile`: a model, a schedule and a device become a callable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.deploy import runtimes, schedules
from iosfarm.deploy.model import CompiledModel
from iosfarm.deploy.sources import Source, source_of
from iosfarm.farm.api import resolve_device, search
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule

if TYPE_CHECKING:
    from iosfarm.deploy.runtimes import SharedRuntime
    from iosfarm.kernels.runtime import Weights
    from iosfarm.search.budget import Budget

DEFAULT_BUDGET = "1m"


def compile(
    model: object,
    schedule: Schedule | str | Path | None = None,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    dtype: str | None = None,
    weights: Weights | str | Path | None = None,
    example_inputs: Sequence[object] | None = None,
    database: str | None = None,
    budget: Budget | float | str | None = DEFAULT_BUDGET,
) -> CompiledModel:
    """A function that runs a model under a schedule: `iosfarm.compile(graph, schedule)(image)`.

    model: what `iosfarm.load` takes. schedule: a `Schedule` or the path of a schedule file; without one the latency
    database's newest for this model, batch size, dtype and device is taken, and if it has none, one is searched for
    within `budget` (see `iosfarm.search`; None: until the search ends by itself). weights: arrays by
    `operator.parameter`, or a safetensors file; by default the model's own, or random ones with a warning where it has
    none. batch_size, dtype: by default the model's, or what the schedule file is for.

    Raises:
        UsageError: a wrong argument, or model, schedule and weights do not fit each other. NoScheduleError: the device
            cannot run the model. Infeasible, MemoryError: it is too large. DatabaseError.
    """
    source = source_of(model, weights, example_inputs)
    shared = runtimes.acquire(resolve_device(device))
    try:
        graph, chosen, notices = _scheduled(source, schedule, shared, batch_size, dtype, database, budget)
        return CompiledModel(shared, graph, chosen, source.weights, source.signature, (*source.notices, *notices))
    except BaseException:
        runtimes.release(shared)
        raise


def _scheduled(
    source: Source,
    schedule: Schedule | str | Path | None,
    shared: SharedRuntime,
    batch_size: int | None,
    dtype: str | None,
    database: str | None,
    budget: Budget | float | str | None,
) -> tuple[Graph, Schedule, tuple[str, ...]]:
    """The graph as it is to run, its schedule, and what to tell about it."""
    from iosfarm.db import LatencyDatabase

    graph = source.graph.bind(batch=batch_size, dtype=dtype)
    with shared.use() as runtime:
        device, environment = runtime.fingerprint()
    if schedule is not None:
        chosen, bound, notices = schedules.given(schedule, graph, device)
        for name, wanted, given in (("batch_size", batch_size, bound.batch), ("dtype", dtype, bound.dtype)):
            if wanted is not None and wanted != given:
                raise UsageError(f"{name} {wanted}, but the schedule is for {given}", hint="leave one of them out")
        return bound, chosen, notices
    with LatencyDatabase(database) as memory:
        found = schedules.remembered(memory, graph, device, environment)
    if found is not None:
        return graph, found[0], (f"under {found[1]}",)
    chosen = search(
        graph,
        device=shared.spec,
        batch_size=graph.batch,
        dtype=graph.dtype,
        database=database,
        budget=budget,
        weights=source.weights,
    )
    return graph, chosen, ("no schedule was in the database; one was searched for",)
