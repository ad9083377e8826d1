"""Searching from Python, and what the command line stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.farm.jobs import Job, JobResult, SearchSettings
from iosfarm.ir.errors import UsageError
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.space import SpaceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iosfarm.db import LatencyDatabase
    from iosfarm.farm.driver import Progress
    from iosfarm.farm.executor import Executor
    from iosfarm.ir.graph import Graph
    from iosfarm.ir.schedule import Schedule
    from iosfarm.kernels.runtime import Weights
    from iosfarm.workers.evaluating import EvaluationSettings

EXECUTORS = ("ray", "inline")


@dataclass(frozen=True)
class Saved:
    """A job's result and the file it was written to (None: no folder was given)."""

    result: JobResult
    path: Path | None


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
    confidence: see `iosfarm.search.method.Method`. budget: a number of seconds, or text such as "10m" or "500 stages".

    Raises:
        UsageError: a setting that cannot be. NoScheduleError: the device cannot run the graph, or the budget was too
            small. DatabaseError.
    """
    space = SpaceSettings(max_group_size, max_groups, tuple(strategies))
    allowed = parsed_budget(budget) if isinstance(budget, str) else Budget.of(budget)
    settings = SearchSettings(space, Method(method, gap, certificate, confidence), budget=allowed)
    job = Job(graph.name, graph.bind(batch=batch_size, dtype=dtype), resolve_device(device), settings, weights)
    return run_jobs([job], database=database, executor=executor)[0].result.schedule


def run_jobs(
    jobs: Sequence[Job],
    *,
    database: str | None = None,
    executor: str = "ray",
    ray_address: str | None = None,
    out: Path | None = None,
    evaluation: EvaluationSettings | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    finished: Callable[[Saved], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Saved]:
    """Search jobs, write a schedule file for each into `out`, and record everything in the database.

    Raises what `Driver.run` raises, and OutputError before anything is measured if `out` cannot be written.
    """
    from iosfarm.db import DatabaseError, LatencyDatabase
    from iosfarm.farm.driver import Driver
    from iosfarm.farm.schedule_file import check_folder

    names = [job.name for job in jobs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UsageError(f"two jobs are named {repeated[0]!r}", hint="give one of them another label")
    if out is not None:
        check_folder(out)
    with LatencyDatabase(database) as memory:
        unfinished = {job.name: memory.start_search(job.label, _settings(job)) for job in jobs}
        done: dict[str, Saved] = {}

        def keep(result: JobResult) -> None:
            _record(memory, result, unfinished.pop(result.job.name))
            saved = Saved(result, _write(result, out))
            done[result.job.name] = saved
            finished(saved)

        try:
            with open_executor(executor, ray_address) as devices:
                driver = Driver(jobs, memory, devices, evaluation=evaluation, report=report, finished=keep, stop=stop)
                driver.run()
        except BaseException as error:
            # What went wrong is worth more than a row that says so.
            if not isinstance(error, DatabaseError):
                with suppress(DatabaseError):
                    _finish(memory, unfinished, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        _finish(memory, unfinished, "interrupted")
        return [done[name] for name in names if name in done]


@contextmanager
def open_executor(kind: str, ray_address: str | None = None) -> Iterator[Executor]:
    """An executor by name, closed at the end.

    Raises:
        UsageError: no such executor.
    """
    if kind not in EXECUTORS:
        raise UsageError(f"unknown executor {kind!r}", hint=f"use one of {', '.join(EXECUTORS)}")
    if kind == "inline" and ray_address is not None:
        raise UsageError("the inline executor takes no Ray address", hint="leave --ray-address or --executor out")
    opened: Executor
    if kind == "ray":
        from iosfarm.farm.ray_executor import RayExecutor

        opened = RayExecutor(ray_address)
    else:
        from iosfarm.farm.executor import InlineExecutor

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


def _settings(job: Job) -> dict[str, object]:
    space = job.settings.space
    return {
        "device": job.device,
        "batch": job.graph.batch,
        "dtype": job.graph.dtype,
        **_method(job),
        "budget": job.settings.budget.seconds,
        "budget_stages": job.settings.budget.stages,
        "max_group_size": space.max_group_size,
        "max_groups": space.max_groups,
        "strategies": list(space.strategies),
        "endings": space.endings,
        "max_part_size": job.settings.max_part_size,
    }


def _method(job: Job) -> dict[str, object]:
    method = job.settings.method
    if method.name == "exhaustive":
        return {"method": method.name}
    bounds = {"certificate": method.certificate, "confidence": method.confidence}
    return {"method": method.name, "gap": method.gap, **bounds}


def _finish(memory: LatencyDatabase, searches: Mapping[str, int], state: str) -> None:
    for identifier in searches.values():
        memory.finish_search(identifier, state, {})


def _record(memory: LatencyDatabase, result: JobResult, identifier: int) -> None:
    """The rows of one result."""
    from iosfarm.db import ScheduledStageRow
    from iosfarm.farm.schedule_file import document

    schedule, job = result.schedule, result.job
    certificate = result.schedules["optimised"].certificate
    memory.record_schedule(
        search_id=identifier,
        model=job.label,
        graph_hash=job.graph.content_hash,
        batch=job.graph.batch,
        dtype=job.graph.dtype,
        device=result.device.device,
        environment=result.device.environment,
        predicted=schedule.predicted,
        measured=result.latency(result.chosen),
        lower_bound=certificate.lower if certificate else None,
        document=document(result).model_dump_json(),
        stages=[
            ScheduledStageRow(position, s.part, s.key, s.strategy, s.predicted, s.measurement)
            for position, s in enumerate(schedule.stages)
        ],
    )
    memory.finish_search(identifier, "interrupted" if result.interrupted else "finished", asdict(result.counts))


def _write(result: JobResult, out: Path | None) -> Path | None:
    """The schedule file of one result."""
    from iosfarm.farm.schedule_file import document, save, target

    if out is None:
        return None
    content = document(result)
    path = target(out, result.job.name, content)
    save(content, path)
    return path
