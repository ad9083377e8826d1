"""Searching from Python, and what the command line stands on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.farm.forewarning import forewarned
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.ir.errors import UsageError
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.space import SpaceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iosfarm.farm.dispatch.policy import Policy
    from iosfarm.farm.executors.executor import Executor
    from iosfarm.farm.progress import Progress
    from iosfarm.farm.run_record import Saved
    from iosfarm.ir.graph import Graph
    from iosfarm.ir.schedule import Schedule
    from iosfarm.kernels.runtime import Weights
    from iosfarm.workers.evaluating import EvaluationSettings

EXECUTORS = ("ray", "process", "inline")

_LOG = logging.getLogger("iosfarm")


def search(
    graph: Graph,
    *,
    device: str = "auto",
    batch_size: int = 1,
    dtype: str = "float32",
    database: str | None = None,
    executor: str = "inline",
    max_group_size: int | None = 3,
    max_groups: int | None = 8,
    strategies: Sequence[str] = ("concurrent", "merge"),
    method: str = "certified",
    gap: float = 0.01,
    certificate: str = "statistical",
    confidence: float = 0.99,
    budget: Budget | float | str | None = None,
    weights: Weights | None = None,
) -> Schedule:
    """Find the fastest schedule of a graph on a device: `iosfarm.search(iosfarm.load("squeezenet"), device="cpu")`.

    What is measured goes to the latency database (`database`: a URL or a file, default the user's own), and what is
    there already is not measured again. gap: how far from the lower bound the answer may be, relative. certificate,
    confidence: see `iosfarm.search.method.Method`. budget: a number of seconds, or text such as "10m" or
    "500 stages"; without one, a network with little to win (the log says so at once) is searched for a minute at most.

    Raises:
        UsageError: a setting that cannot be. NoScheduleError: the device cannot run the graph, or the budget was too
            small. DatabaseError.
    """
    space = SpaceSettings(max_group_size, max_groups, tuple(strategies))
    allowed = parsed_budget(budget) if isinstance(budget, str) else Budget.of(budget)
    settings = SearchSettings(space, Method(method, gap, certificate, confidence), budget=allowed)
    job = Job(graph.name, graph.bind(batch=batch_size, dtype=dtype), resolve_device(device), settings, weights)
    return run_jobs(forewarned([job], _LOG.warning), database=database, executor=executor)[0].result.schedule


def run_jobs(
    jobs: Sequence[Job],
    *,
    database: str | None = None,
    overlay: str | None = None,
    executor: str | Executor = "ray",
    ray_address: str | None = None,
    out: Path | None = None,
    log: Path | None = None,
    metrics_port: int | None = None,
    evaluation: EvaluationSettings | None = None,
    policy: Policy | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    finished: Callable[[Saved], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Saved]:
    """Search jobs, write a schedule file for each into `out`, and record everything in the database.

    overlay: see `LatencyDatabase`. executor: one that is open already stays open. log: a file for what happens, see
    `EventLog`. metrics_port: serve metrics there, through Ray.

    Raises what `Driver.run` raises, and OutputError or LogError before anything is measured if `out` or `log` cannot be
    written.
    """
    from iosfarm.db import LatencyDatabase
    from iosfarm.farm.events import EventLog, Sink, to_all
    from iosfarm.farm.output_files import check_folder
    from iosfarm.farm.run_record import RecordedRun

    names = [job.name for job in jobs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UsageError(f"two jobs are named {repeated[0]!r}", hint="give one of them another label")
    if out is not None:
        check_folder(out)
    with ExitStack() as stack:
        sinks: list[Sink] = [stack.enter_context(EventLog(log))] if log is not None else []
        memory = stack.enter_context(LatencyDatabase(database, overlay=overlay))
        devices = (
            stack.enter_context(open_executor(executor, ray_address, metrics_port))
            if isinstance(executor, str)
            else executor
        )
        tell = report
        if executor == "ray":
            from iosfarm.farm.metrics import Metrics

            metrics = Metrics()
            sinks.append(metrics)

            def tell(progress: Progress) -> None:
                metrics.update(progress)
                report(progress)

        return RecordedRun(
            jobs,
            memory,
            devices,
            policy=policy,
            evaluation=evaluation,
            out=out,
            report=tell,
            finished=finished,
            stop=stop,
            emit=to_all(sinks),
        ).run()


@contextmanager
def open_executor(kind: str, ray_address: str | None = None, metrics_port: int | None = None) -> Iterator[Executor]:
    """An executor by name, closed at the end.

    Raises:
        UsageError: no such executor.
    """
    if kind not in EXECUTORS:
        raise UsageError(f"unknown executor {kind!r}", hint=f"use one of {', '.join(EXECUTORS)}")
    if kind != "ray" and ray_address is not None:
        raise UsageError(f"the {kind} executor takes no Ray address", hint="leave --ray-address or --executor out")
    if metrics_port is not None and (kind != "ray" or ray_address is not None):
        what = "metrics are served by Ray" if kind != "ray" else "the cluster serves metrics on a port of its own"
        raise UsageError(what, where="--metrics-port", hint="leave it out")
    opened: Executor
    if kind == "ray":
        from iosfarm.farm.executors.ray_executor import RayExecutor

        opened = RayExecutor(ray_address, metrics_port=metrics_port)
    elif kind == "process":
        from iosfarm.farm.executors.process_executor import ProcessExecutor

        opened = ProcessExecutor()
    else:
        from iosfarm.farm.executors.inline_executor import InlineExecutor

        opened = InlineExecutor()
    try:
        yield opened
    finally:
        opened.close()


def parsed_budget(text: str, where: str = "") -> Budget:
    """A budget from "90s", "10m", "1h30m", "300" or "500 stages".

    Raises:
        UsageError: it is none of these.
    """
    from iosfarm.zoo.zoo_settings import parse_budget

    try:
        return parse_budget(text)
    except ValueError as error:
        raise UsageError(f"{where or 'budget'} {text}: {error}") from None


def resolve_device(spec: str) -> str:
    """`auto` becomes the best device of this machine."""
    from iosfarm.kernels import best_device

    return best_device() if spec == "auto" else spec
