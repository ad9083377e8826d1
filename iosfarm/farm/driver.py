"""The farm's loop: one queue of wanted stages for each device, fed by all jobs; what returns is recorded at once.

A stage that two jobs want is measured once. Whatever ends the loop (a budget, Ctrl-C, a kill), what the workers
returned is in the database, and the next search starts from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from time import monotonic

from iosfarm.db import LatencyDatabase
from iosfarm.farm.executor import MEASURES_AHEAD, DeviceInfo, EvaluateTask, Executor, MeasureTask, Outcome
from iosfarm.farm.job_search import JobSearch
from iosfarm.farm.jobs import Job, JobResult
from iosfarm.farm.remembered import remembered
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.stage import Stage
from iosfarm.search.solver import NoScheduleError
from iosfarm.workers.evaluating import Evaluation, EvaluationSettings

CHUNK = 12
"""Stages of one task: they are measured in turns, so that a slow moment hits all alike."""

SIMULATED_CHUNK = 512

MAX_ATTEMPTS = 3
"""How often a stage is tried when the infrastructure fails."""

DRAIN = 20.0
"""Seconds to wait, when asked to stop, for the task that each device is in the middle of: its samples are paid for."""

POLL = 0.5
"""Seconds between two looks at the clock while devices are busy."""


@dataclass(frozen=True)
class Progress:
    """The state of a run, for people: stages known of those wanted, and what each device has queued."""

    known: int
    wanted: int
    measured: int
    checked: int
    failed: int
    finished_jobs: int
    jobs: int
    busy: dict[str, int]
    message: str = ""


@dataclass
class _Queue:
    """What one device still has to measure. doubtful: again, with more samples; checking: those and what is under way
    of them.
    """

    info: DeviceInfo
    stages: dict[str, Stage] = field(default_factory=dict)
    doubtful: dict[str, Stage] = field(default_factory=dict)
    checking: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    flying: dict[int, dict[str, Stage]] = field(default_factory=dict)

    def check(self, stages: Mapping[str, Stage]) -> None:
        """Queue doubtful stages, each once."""
        self.doubtful.update((key, stage) for key, stage in stages.items() if key not in self.checking)
        self.checking.update(stages)

    def next_doubtful(self, most: int) -> dict[str, Stage]:
        """Takes doubtful stages out of the queue."""
        return {key: self.doubtful.pop(key) for key in list(islice(self.doubtful, most))}

    def next(self, most: int) -> dict[str, Stage]:
        """Takes the stages of the next task out of the queue. One that has failed goes alone: should it be what fails,
        it takes no others with it.
        """
        keys = list(islice(self.stages, most))
        fresh = list(takewhile(lambda key: key not in self.attempts, keys))
        return {key: self.stages.pop(key) for key in fresh or keys[:1]}


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
        self._searches: list[JobSearch] = []
        self._evaluating: dict[int, JobSearch] = {}
        self._doubts: dict[int, set[str]] = {}
        self._awaited: dict[int, set[int]] = {}  # of a job whose budget is over: tasks that were under way then
        self._results: dict[int, JobResult] = {}
        self._failures: dict[int, NoScheduleError] = {}
        self._notes: dict[int, list[str]] = {}
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
        queue = self._queues.setdefault(job.device, _Queue(info))
        self._report(self._progress(f"enumerating {job.label}"))
        search = JobSearch(job, info)
        notes: list[str] = []
        self._notes[id(search)] = notes
        recorded = self._database.lookup(list(search.wanted), info.device, info.environment)
        soft: set[str] = set()
        for key, found in recorded.items():
            search.tell(key, found.measurement, found.id, found=True)
            soft.update(found.soft_differences)
        if soft:
            notes.append(f"some latencies were measured with another {', '.join(sorted(soft))}")
        for key, stage in search.wanted.items():
            queue.stages.setdefault(key, stage)
        self._searches.append(search)

    def _feed(self) -> None:
        """Keep every device busy, and have finished jobs evaluated."""
        busy = {id(search) for search in self._evaluating.values()} | self._results.keys() | self._failures.keys()
        for search in self._searches:
            if search.done and id(search) not in busy and not self._awaited.get(id(search)):
                try:
                    if not self._in_doubt(search):
                        self._evaluate(search)
                except NoScheduleError as error:
                    self._failures[id(search)] = error
        for spec, queue in self._queues.items():
            # A model of a device answers at once: larger tasks, fewer trips.
            chunk = SIMULATED_CHUNK if queue.info.device.simulated else CHUNK
            while (queue.stages or queue.doubtful) and self._executor.pending(spec) < MEASURES_AHEAD:
                carefully = bool(queue.doubtful)
                stages = queue.next_doubtful(chunk) if carefully else queue.next(chunk)
                task = MeasureTask(tuple(s.canonical for s in stages.values()), carefully)
                queue.flying[self._executor.submit(spec, task)] = stages

    def _in_doubt(self, search: JobSearch) -> bool:
        """Whether stages of the best schedule have to be measured again first; they are queued."""
        queue = self._queues[search.job.device]
        if self._doubts.get(id(search), set()) & queue.checking:
            return True
        doubts = search.doubts()
        queue.check(doubts)
        self._doubts[id(search)] = set(doubts)
        return bool(doubts)

    def _take(self, outcome: Outcome) -> None:
        for tasks in self._awaited.values():
            tasks.discard(outcome.task)
        if outcome.task in self._evaluating:
            search = self._evaluating.pop(outcome.task)
            if outcome.error:
                self._notes[id(search)].append(f"not measured end to end: {outcome.error}")
            self._conclude(search, outcome.evaluation, interrupted=False)
            return
        queue = self._queues[outcome.spec]
        stages = queue.flying.pop(outcome.task)
        measurements = list(outcome.measurements)
        if outcome.error:
            measurements = [Measurement(key, Status.FAILED, reason=outcome.error) for key in stages]
        numbers = self._database.record(
            [(stages[m.stage_key].summary, m) for m in measurements], queue.info.device, queue.info.environment
        )
        for measurement, number in zip(measurements, numbers, strict=True):
            if measurement.stage_key in queue.checking:
                queue.checking.discard(measurement.stage_key)
                for search in self._of(outcome.spec):
                    search.confirm(measurement.stage_key, measurement, number)
                continue
            self._tell(queue, stages[measurement.stage_key], measurement, number)

    def _tell(self, queue: _Queue, stage: Stage, measurement: Measurement, number: int) -> None:
        key = measurement.stage_key
        searches = self._of(queue.info.spec)
        if measurement.status in (Status.OK, Status.INFEASIBLE):
            for search in searches:
                search.tell(key, measurement, number, found=False)
            return
        queue.attempts[key] = queue.attempts.get(key, 0) + 1
        if queue.attempts[key] < MAX_ATTEMPTS:
            queue.stages[key] = stage  # behind all others: a passing cause may have passed by then
            return
        for search in searches:
            if search.give_up(key):
                what = f"{stage.describe()} ({stage.strategy})"
                note = f"gave up on {what}: {measurement.status}, {measurement.reason}"
                self._notes[id(search)].append(note)

    def _of(self, spec: str) -> list[JobSearch]:
        return [search for search in self._searches if search.device.spec == spec]

    def _expire(self) -> None:
        """A job whose budget is over wants no more: stages that no other job of the device wants leave the queue."""
        elapsed = monotonic() - self._started
        expired = False
        for search in self._searches:
            budget = search.job.settings.budget
            if budget is not None and elapsed >= budget and not search.done:
                search.expire()
                expired = True
                self._awaited[id(search)] = set(self._queues[search.job.device].flying)
        if expired:
            for spec, queue in self._queues.items():
                wanted = [search.wanted for search in self._of(spec)]
                queue.stages = {k: stage for k, stage in queue.stages.items() if any(k in w for w in wanted)}

    # -- answers -------------------------------------------------------------------------------------------------

    def _evaluate(self, search: JobSearch) -> None:
        job, schedules = search.job, search.runnable()
        earlier = remembered(self._database, job, search.device, schedules)
        if earlier is not None:
            self._conclude(search, earlier, interrupted=False)
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
        notes = self._notes[id(search)]
        if search.expired and search.counts().left:
            interrupted = True
            notes.append(f"the budget of {search.job.settings.budget:g} s ended the search")
        result = search.result(schedules, evaluation, seconds, interrupted, notes)
        self._results[id(search)] = result
        self._finished(result)

    # -- progress ------------------------------------------------------------------------------------------------

    def _tell_progress(self) -> None:
        self._report(self._progress("checking schedules end to end" if self._evaluating else ""))

    def _progress(self, message: str) -> Progress:
        counts = [search.counts() for search in self._searches]
        return Progress(
            known=sum(c.found + c.measured for c in counts),
            wanted=sum(c.wanted for c in counts),
            measured=sum(c.measured for c in counts),
            checked=sum(c.checked for c in counts),
            failed=sum(c.failed for c in counts),
            finished_jobs=len(self._results),
            jobs=len(self._jobs),
            busy={spec: self._executor.pending(spec) for spec in self._queues},
            message=message,
        )
