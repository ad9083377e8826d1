"""One run and what the database keeps of it: a row of its own, one for each search, and the schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from iosfarm.db import DatabaseError, LatencyDatabase, RunSummary, ScheduledStageRow, SearchState
from iosfarm.farm.dispatch.patience import patient
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.driver import Driver
from iosfarm.farm.events import Event, Sink
from iosfarm.farm.executors.executor import Executor
from iosfarm.farm.jobs.job import Job, JobResult
from iosfarm.farm.progress import Progress
from iosfarm.farm.schedules.schedule_file import document, save, target
from iosfarm.workers.evaluating import EvaluationSettings

UPDATE = 5.0
"""Seconds between two notes in the database of how far a run is."""


@dataclass(frozen=True)
class Saved:
    """A job's result and the file it was written to (None: no folder was given)."""

    result: JobResult
    path: Path | None


class RecordedRun:
    """A driver's run with its rows. `run` once.

    report, finished, stop, emit: see `Driver`. A database that is away for a while is waited for: the jobs' rows, too.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        database: LatencyDatabase,
        executor: Executor,
        *,
        policy: Policy | None = None,
        evaluation: EvaluationSettings | None = None,
        out: Path | None = None,
        report: Callable[[Progress], None] = lambda _: None,
        finished: Callable[[Saved], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        emit: Sink = lambda event: None,
    ) -> None:
        policy = policy or Policy()
        self._jobs = list(jobs)
        self._out = out
        self._report = report
        self._finished = finished
        self._emit = emit
        self._progress = Progress()
        self._updated = monotonic()
        self._away = False
        database.silence = policy.silence
        self._database = patient(database, outage=policy.outage, waiting=self._waiting, back=self._back, stop=stop)
        self._first = database
        self._run: int | None = None
        self._unfinished: dict[str, int] = {}
        self._done: dict[str, Saved] = {}
        self._driver = Driver(
            jobs,
            self._database,
            executor,
            evaluation=evaluation,
            policy=policy,
            report=self._told,
            started=self._started,
            finished=self._keep,
            stop=stop,
            emit=emit,
        )

    def run(self) -> list[Saved]:
        """The results, in the order of the jobs. Raises what `Driver.run` raises."""
        models, devices = ({getattr(job, name): None for job in self._jobs} for name in ("label", "device"))
        # Nothing is lost yet: where the database is away from the start, that is said at once.
        self._run = self._first.begin_run(list(models), list(devices))
        self._emit(Event("run_started", {"run": self._run, "models": list(models), "devices": list(devices)}))
        try:
            results = self._driver.run()
        except BaseException as error:
            # What went wrong is worth more than a row that says so.
            if not isinstance(error, DatabaseError):
                with suppress(DatabaseError):
                    state = SearchState.INTERRUPTED if isinstance(error, KeyboardInterrupt) else SearchState.FAILED
                    self._end(state, str(error))
            raise
        interrupted = bool(self._unfinished) or any(result.interrupted for result in results)
        self._end(SearchState.INTERRUPTED if interrupted else SearchState.FINISHED)
        return [self._done[result.job.name] for result in results if result.job.name in self._done]

    # -- what the driver tells -----------------------------------------------------------------------------------

    def _started(self, job: Job) -> None:
        self._unfinished[job.name] = self._database.start_search(job.label, settings_of(job), run_id=self._run)

    def _keep(self, result: JobResult) -> None:
        record(self._database, result, self._unfinished.pop(result.job.name))
        saved = Saved(result, write(result, self._out))
        self._done[result.job.name] = saved
        self._finished(saved)

    def _told(self, progress: Progress) -> None:
        self._progress = progress
        self._report(progress)
        now = monotonic()
        if self._run is not None and now - self._updated >= UPDATE:
            self._updated = now
            self._database.update_run(self._run, summary(progress))

    def _waiting(self, reason: str, seconds: float) -> None:
        if not self._away:
            self._emit(Event("database_away", {"reason": reason}))
            self._away = True
        self._report(self._driver.progress(f"waiting for the database for {seconds:.0f} s ({reason})"))

    def _back(self, seconds: float) -> None:
        self._away = False
        self._emit(Event("database_back", {"seconds": seconds}))
        self._report(self._driver.progress(f"the database is back after {seconds:.0f} s"))

    def _end(self, state: SearchState, note: str = "") -> None:
        for identifier in self._unfinished.values():
            self._database.finish_search(identifier, "failed" if state is SearchState.FAILED else "interrupted", {})
        progress = summary(self._driver.progress())
        if self._run is not None:
            self._database.finish_run(self._run, state, progress, note=note)
        self._emit(Event("run_finished", {"run": self._run, "outcome": state, "note": note, **asdict(progress)}))


def summary(progress: Progress) -> RunSummary:
    """What the run's row says of it."""
    total = progress.total
    return RunSummary(
        total("stages"), total("measured"), total("found"), dict(progress.failures), progress.busy, progress.gap
    )


def settings_of(job: Job) -> dict[str, object]:
    """What the search's row says of its job."""
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


def _method(job: Job) -> Mapping[str, object]:
    method = job.settings.method
    if method.name == "exhaustive":
        return {"method": method.name}
    bounds = {"certificate": method.certificate, "confidence": method.confidence}
    return {"method": method.name, "gap": method.gap, **bounds}


def record(memory: LatencyDatabase, result: JobResult, identifier: int) -> None:
    """The rows of one result."""
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


def write(result: JobResult, out: Path | None) -> Path | None:
    """The schedule file of one result."""
    if out is None:
        return None
    content = document(result)
    path = target(out, result.job.name, content)
    save(content, path)
    return path
