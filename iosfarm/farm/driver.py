"""The farm's loop: one queue of wanted stages for each device, fed by all jobs; what returns is recorded at once.

A stage that two jobs want is measured once. Whatever ends the loop (a budget, Ctrl-C, a kill), what the workers
returned is in the database, and the next search starts from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic

from iosfarm.db import LatencyDatabase
from iosfarm.farm.executor import MEASURES_AHEAD, DeviceInfo, EvaluateTask, Executor, MeasureTask, Outcome
from iosfarm.farm.job_search import JobSearch, Request
from iosfarm.farm.jobs import Job, JobResult
from iosfarm.farm.remembered import JobMemory, remembered
from iosfarm.farm.verdict import verdict
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.stage import Stage
from iosfarm.search.compiled import NOTE, compiled_before
from iosfarm.search.latency_model import LatencyModel
from iosfarm.search.solver import NoScheduleError
from iosfarm.workers.evaluating import Evaluation, EvaluationSettings
from iosfarm.workers.settings import Effort

CHUNK = 12
"""Stages of one task: they are measured in turns, so that a slow moment hits all alike."""

SIMULATED_CHUNK = 48

MAX_ATTEMPTS = 3
"""How often a stage is tried when the infrastructure fails."""

DRAIN = 20.0
"""Seconds to wait, when asked to stop, for the task that each device is in the middle of: its samples are paid for."""

POLL = 0.5
"""Seconds between two looks at the clock while devices are busy."""


@dataclass(frozen=True)
class Progress:
    """The state of a run, for people. stages: distinct ones that there are; known, measured, checked (again), failed:
    of these. gap: largest of the jobs that have one. busy: what each device has queued.
    """

    stages: int
    known: int
    measured: int
    checked: int
    failed: int
    gap: float | None
    finished_jobs: int
    jobs: int
    busy: dict[str, int]
    message: str = ""


@dataclass
class _Queue:
    """What one device still has to measure, by key and effort, and what is under way by task."""

    info: DeviceInfo
    stages: dict[tuple[str, Effort], Stage] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    flying: dict[int, tuple[Effort, dict[str, Stage]]] = field(default_factory=dict)

    @property
    def chunk(self) -> int:
        """Stages of a task: a model of a device answers at once, so larger ones make fewer trips."""
        return SIMULATED_CHUNK if self.info.device.simulated else CHUNK

    @property
    def ahead(self) -> int:
        """Tasks to hand over at once. A processor is to do nothing else while it measures: not decide what is next."""
        return 1 if self.info.device.kind == "cpu" else MEASURES_AHEAD

    def add(self, key: str, request: Request) -> None:
        """Queue a stage, if it is not queued or under way with as much effort; one that is with less waits no more."""
        flying = {effort for effort, stages in self.flying.values() if key in stages}
        queued = {effort for effort in Effort if (key, effort) in self.stages}
        if any(_enough(effort, request.effort) for effort in flying | queued):
            return
        for effort in queued:
            del self.stages[key, effort]
        self.stages[key, request.effort] = request.stage

    def next(self) -> tuple[Effort, dict[str, Stage]]:
        """Takes the stages of the next task out of the queue: of one effort. One that has failed goes alone: should it
        be what fails, it takes no others with it.
        """
        (first, effort), *_ = self.stages
        chosen = [first]
        if first not in self.attempts:
            alike = [key for key, other in self.stages if other is effort and key not in self.attempts]
            chosen = alike[: self.chunk]
        return effort, {key: self.stages.pop((key, effort)) for key in chosen}


def _enough(effort: Effort, wanted: Effort) -> bool:
    efforts = list(Effort)
    return efforts.index(effort) >= efforts.index(wanted)


class Driver:
    """Runs jobs on an executor's devices with a database behind them. `run` once."""

    def __init__(
        self,
        jobs: Sequence[Job],
        database: LatencyDatabase,
        executor: Executor,
        *,
        evaluation: EvaluationSettings | None = None,
        report: Callable[[Progress], None] = lambda _: None,
        finished: Callable[[JobResult], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """report: called often. finished: called with each result as soon as it is there. stop: asked often; once it
        says yes, what is under way is recorded and the rest is left.
        """
        self._jobs = list(jobs)
        self._database = database
        self._executor = executor
        self._evaluation = evaluation or EvaluationSettings()
        self._report = report
        self._finished = finished
        self._stop = stop
        self._queues: dict[str, _Queue] = {}
        self._models: dict[str, LatencyModel] = {}
        self._searches: list[JobSearch] = []
        self._evaluating: dict[int, JobSearch] = {}
        self._awaited: dict[int, set[int]] = {}  # of a job whose budget is over: tasks that were under way then
        self._results: dict[int, JobResult] = {}
        self._failures: dict[int, NoScheduleError] = {}
        self._started = monotonic()

    def run(self) -> list[JobResult]:
        """Search all jobs; results in the order of the jobs.

        `stop`, or a job's budget, ends the measuring: the best schedules of what is known are returned, marked as
        interrupted; a job for which nothing is known yet is left out.

        Raises:
            UsageError: a job that cannot be. NoScheduleError: a job has no schedule, or its budget was too small for
            one; all others have been finished before. DatabaseError: what was measured cannot be recorded.
        """
        for job in self._jobs:
            if not self._stop():
                self._prepare(job)
        self._expire()
        self._feed()
        while len(self._results) + len(self._failures) < len(self._searches) and not self._stop():
            self._tell_progress()
            for outcome in self._executor.wait(POLL):
                self._take(outcome)
            self._expire()
            self._feed()
        if self._stop():
            for outcome in self._executor.drain(DRAIN):
                self._take(outcome)
        elif self._failures:
            raise next(iter(self._failures.values()))
        for search in self._searches:
            if id(search) not in self._results:
                with suppress(NoScheduleError):
                    self._conclude(search, None, interrupted=True)
        self._tell_progress()
        return [self._results[id(search)] for search in self._searches if id(search) in self._results]

    # -- stages --------------------------------------------------------------------------------------------------

    def _prepare(self, job: Job) -> None:
        self._report(self._progress(f"opening {job.device}"))
        info = self._executor.open(job.device)
        self._queues.setdefault(job.device, _Queue(info))
        note = "" if self._searches or compiled_before() else f" ({NOTE})"
        self._report(self._progress(f"enumerating {job.label}{note}"))
        memory = JobMemory(self._database, job, info)
        search = JobSearch(job, info, self._models.setdefault(job.device, LatencyModel()), memory)
        recorded = self._database.lookup(search.keys(), info.device, info.environment)
        soft: set[str] = set()
        for key, found in recorded.items():
            search.tell(key, found.measurement, found.id, found=True)
            soft.update(found.soft_differences)
        if soft:
            search.notes.append(f"some latencies were measured with another {', '.join(sorted(soft))}")
        self._searches.append(search)

    def _feed(self) -> None:
        """Keep every device busy, and have finished jobs evaluated."""
        hungry = {spec for spec, queue in self._queues.items() if self._hungry(queue)}
        for search in self._searches:
            if self._concluded(search):
                continue
            queue, requests = self._queues[search.job.device], {}
            try:
                if search.job.device in hungry:
                    requests = search.next(MEASURES_AHEAD * queue.chunk)
                    for key, request in requests.items():
                        queue.add(key, request)
                idle = search.job.device in hungry and search.done and not requests
                if idle or (search.expired and not self._awaited[id(search)]):
                    self._evaluate(search)
            except NoScheduleError as error:
                self._failures[id(search)] = _too_small(search) or error
        for spec, queue in self._queues.items():
            while queue.stages and self._executor.pending(spec) < queue.ahead:
                effort, stages = queue.next()
                task = MeasureTask(tuple(s.canonical for s in stages.values()), effort)
                queue.flying[self._executor.submit(spec, task)] = effort, stages

    def _concluded(self, search: JobSearch) -> bool:
        evaluating = any(other is search for other in self._evaluating.values())
        return evaluating or id(search) in self._results or id(search) in self._failures

    def _hungry(self, queue: _Queue) -> bool:
        """Whether a device is about to run out of work: asking before that would be asking with less knowledge."""
        return not queue.stages and self._executor.pending(queue.info.spec) < queue.ahead

    def _take(self, outcome: Outcome) -> None:
        for tasks in self._awaited.values():
            tasks.discard(outcome.task)
        if outcome.task in self._evaluating:
            search = self._evaluating.pop(outcome.task)
            if outcome.error:
                search.notes.append(f"not measured end to end: {outcome.error}")
            self._conclude(search, outcome.evaluation, interrupted=False)
            return
        queue = self._queues[outcome.spec]
        effort, stages = queue.flying.pop(outcome.task)
        measurements = list(outcome.measurements)
        if outcome.error:
            measurements = [Measurement(key, Status.FAILED, reason=outcome.error) for key in stages]
        numbers = self._database.record(
            [(stages[m.stage_key].summary, m) for m in measurements], queue.info.device, queue.info.environment
        )
        for measurement, number in zip(measurements, numbers, strict=True):
            self._tell(queue, Request(stages[measurement.stage_key], effort), measurement, number)

    def _tell(self, queue: _Queue, request: Request, measurement: Measurement, number: int) -> None:
        key = measurement.stage_key
        searches = self._of(queue.info.spec)
        if measurement.status in (Status.OK, Status.INFEASIBLE):
            for search in searches:
                search.tell(key, measurement, number, found=False)
            return
        queue.attempts[key] = queue.attempts.get(key, 0) + 1
        if queue.attempts[key] < MAX_ATTEMPTS and any(search.wants(key) for search in searches):
            queue.add(key, request)  # behind all others: a passing cause may have passed by then
            return
        for search in searches:
            if search.give_up(key):
                what = f"{request.stage.describe()} ({request.stage.strategy})"
                search.notes.append(f"gave up on {what}: {measurement.status}, {measurement.reason}")

    def _of(self, spec: str) -> list[JobSearch]:
        return [search for search in self._searches if search.device.spec == spec]

    def _expire(self) -> None:
        """A job whose budget is over wants no more: stages that no other job of the device wants leave the queue."""
        elapsed = monotonic() - self._started
        expired = False
        for search in self._searches:
            over = search.job.settings.budget.spent(elapsed, 0)
            if over and not search.expired and not self._concluded(search):
                search.expire()
                expired = True
                self._awaited[id(search)] = set(self._queues[search.job.device].flying)
        if expired:
            for spec, queue in self._queues.items():
                searches = self._of(spec)
                wanted = {item: any(s.wants(item[0]) for s in searches) for item in queue.stages}
                queue.stages = {item: stage for item, stage in queue.stages.items() if wanted[item]}

    # -- answers -------------------------------------------------------------------------------------------------

    def _evaluate(self, search: JobSearch) -> None:
        job, schedules = search.job, search.runnable()
        earlier = remembered(self._database, job, search.device, schedules)
        if earlier is not None or job.settings.budget.spent(0, 0):
            self._conclude(search, earlier, interrupted=earlier is None)
            return
        task = EvaluateTask(job.graph, schedules, job.weights, job.seed, self._settings(search))
        self._evaluating[self._executor.submit(job.device, task)] = search

    def _settings(self, search: JobSearch) -> EvaluationSettings:
        # What a model of a device computes is the reference itself: there is nothing to check.
        check = self._evaluation.check and not search.device.device.simulated
        return replace(self._evaluation, check=check)

    def _conclude(self, search: JobSearch, evaluation: Evaluation | None, *, interrupted: bool) -> None:
        schedules = search.schedules()
        seconds = monotonic() - self._started
        notes = [*search.job.notices, *search.notes]
        interrupted |= not search.complete
        if interrupted and (search.expired or search.out_of_stages):
            notes.append(f"the budget of {search.job.settings.budget} ended the search")
        elif search.noisy:
            notes.append(f"the device is too unsteady to tell the optimum closer than the gap of {search.gap:.1%}")
        result = verdict(search, schedules, evaluation, seconds, interrupted, notes)
        self._results[id(search)] = result
        self._finished(result)

    # -- progress ------------------------------------------------------------------------------------------------

    def _tell_progress(self) -> None:
        self._report(self._progress("checking schedules end to end" if self._evaluating else ""))

    def _progress(self, message: str) -> Progress:
        counts = [search.counts() for search in self._searches]
        gaps = [gap for search in self._searches if (gap := search.gap) is not None]
        return Progress(
            stages=sum(c.stages for c in counts),
            known=sum(c.found + c.measured for c in counts),
            measured=sum(c.measured for c in counts),
            checked=sum(c.checked for c in counts),
            failed=sum(c.failed for c in counts),
            gap=max(gaps, default=None),
            finished_jobs=len(self._results),
            jobs=len(self._jobs),
            busy={spec: self._executor.pending(spec) for spec in self._queues},
            message=message,
        )


def _too_small(search: JobSearch) -> NoScheduleError | None:
    """What to say where a job's budget ended before there was any schedule."""
    missing, budget = search.missing_units, search.job.settings.budget
    if not missing or not (search.expired or search.out_of_stages):
        return None
    units = f"{missing} single unit{'s' if missing > 1 else ''}"
    return NoScheduleError(
        f"no schedule yet: the budget of {budget} ended before {units} had been measured",
        where=search.job.name,
        hint="raise the budget; what was measured is kept",
    )
