"""`iosfarm.compile`: a model, a schedule and a device become a callable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.deploy import runtimes, schedules
from iosfarm.deploy.model import CompiledModel
from iosfarm.deploy.sources import Examples, Source, source_of
from iosfarm.farm.api import resolve_device, search
from iosfarm.ir.errors import UsageError
from iosfarm.ir.schedule import Schedule
from iosfarm.search.solver import NoScheduleError

if TYPE_CHECKING:
    from iosfarm.ir.device import Device, Environment
    from iosfarm.ir.graph import Graph
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
    example_inputs: Examples | None = None,
    database: str | None = None,
    budget: Budget | float | str | None = DEFAULT_BUDGET,
) -> CompiledModel:
    """A function that runs a model under a schedule: `iosfarm.compile(graph, schedule)(image)`.

    model: a graph, the name of a built-in network, a torch module (with `example_inputs`: a tensor, a sequence of
    positional arguments or a mapping of named ones) or exported program, what a front end has imported, or the path of
    an ONNX file, a `.pt2` file or a graph; a module is called as its `forward` is. schedule: a `Schedule` or the path
    of a schedule file; without one the latency database's newest for this model, batch size, dtype and device is taken,
    and if it has none, one is searched for within `budget` (see `iosfarm.search`; None: until the search ends by
    itself). weights: arrays by `operator.parameter`, or a safetensors file; by default the model's own, or random ones
    with a warning where it has none. batch_size, dtype: by default those of the examples, of the model, or of the
    schedule file.

    Raises:
        UsageError: a wrong argument, or model, schedule and weights do not fit each other. NoScheduleError: the device
            cannot run the model. Infeasible, MemoryError: it is too large. DatabaseError.
    """
    source = source_of(model, weights, example_inputs)
    return compile_source(
        source,
        schedule,
        device=device,
        batch_size=batch_size,
        dtype=dtype,
        database=database,
        budget=budget,
    )


def compile_source(
    source: Source,
    schedule: Schedule | str | Path | None = None,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    dtype: str | None = None,
    database: str | None = None,
    budget: Budget | float | str | None = DEFAULT_BUDGET,
    searching: bool = True,
) -> CompiledModel:
    """As `compile`, of a network that has been loaded. searching: may be done where there is no schedule; else the
    database is only read.

    Raises:
        NoScheduleError: there is no schedule, too. Else as `compile`.
    """
    shared = runtimes.acquire(resolve_device(device))
    try:
        graph = source.graph.bind(batch=batch_size, dtype=dtype)
        with shared.use() as runtime:
            target, environment = runtime.fingerprint()
        notices: tuple[str, ...] = ()
        if schedule is not None:
            chosen, graph, notices = schedules.given(schedule, graph, target)
            for name, wanted, found in (("batch_size", batch_size, graph.batch), ("dtype", dtype, graph.dtype)):
                if wanted is not None and wanted != found:
                    raise UsageError(f"{name} {wanted}, but the schedule is for {found}", hint="leave one of them out")
        elif known := _remembered(database, not searching, graph, target, environment):
            chosen, notices = known[0], (f"under {known[1]}",)
        elif searching:
            chosen = _searched(source, graph, shared.spec, database, budget)
            notices = ("no schedule was in the database; one was searched for",)
        else:
            what = f"no schedule for a network of {len(graph.units)} units, batch {graph.batch}, {graph.dtype}"
            raise NoScheduleError(what, where=target.model, hint="search for one: iosfarm.search, or iosfarm search")
        return CompiledModel(shared, graph, chosen, source.weights, source.signature, (*source.notices, *notices))
    except BaseException:
        runtimes.release(shared)
        raise


def _remembered(
    database: str | None, readonly: bool, graph: Graph, device: Device, environment: Environment
) -> tuple[Schedule, str] | None:
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(database, readonly=readonly) as memory:
        return schedules.remembered(memory, graph, device, environment)


def _searched(
    source: Source, graph: Graph, device: str, database: str | None, budget: Budget | float | str | None
) -> Schedule:
    return search(
        graph,
        device=device,
        batch_size=graph.batch,
        dtype=graph.dtype,
        database=database,
        budget=budget,
        weights=source.weights,
    )
