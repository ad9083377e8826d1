"""The farm's loop: what jobs want is fed to devices, and what returns is recorded at once and told to all jobs.

A stage that two jobs want is measured once. Whatever ends the loop (a budget, Ctrl-C, a kill), what the workers
returned is in the database, and the next search starts from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic

from iosfarm.db import LatencyDatabase
from iosfarm.farm import progress
from iosfarm.farm.dispatch.dispatcher import Answer, Dispatcher, Evaluated, GivenUp, Known, Withdrawn
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.dispatch.pool import Pool
from iosfarm.farm.events import Event, Sink
from iosfarm.farm.executors.executor import EvaluateTask, Executor
from iosfarm.farm.jobs.job import Job, JobResult
from iosfarm.farm.jobs.job_search import JobSearch
from iosfarm.farm.jobs.verdict import verdict
from iosfarm.farm.opening import how_it_ended, open_search, too_late, too_small
from iosfarm.farm.progress import JobProgress, Progress
from iosfarm.farm.remembered import remembered
from iosfarm.ir.collector import seldom_collecting
from iosfarm.search.candidates import EnumerationStoppedError
from iosfarm.search.compiled import NOTE, compiled_before
from iosfarm.search.solver import NoScheduleError
from iosfarm.workers.evaluating import Evaluation, EvaluationSettings

DRAIN = 20.0
"""Seconds to wait, when asked to stop, for the task that each device is in the middle of: its samples are paid for."""

POLL = 0.5
"""Seconds between two looks at the clock while devices are busy."""

REPORT = 0.2
"""Seconds between two reports that say nothing new but numbers."""


class Driver:
    """Runs jobs on an executor's devices with a database behind them. `run` once."""

    def __init__(
        self,
        jobs: Sequence[Job],
        database: LatencyDatabase,
        executor: Executor,
        *,
        evaluation: EvaluationSettings | None = None,
        policy: Policy | None = None,
        report: Callable[[Progress], None] = lambda _: None,
        started: Callable[[Job], None] = lambda _: None,
        finished: Callable[[JobResult], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        emit: Sink = lambda event: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """report: called often. started: called with each job as it was found to be (one for each model of a device);
        finished: with each result as soon as it is there. stop: asked often; once it says yes, what is under way is
        recorded and the rest is left. emit: told what happens.
        """
        self._jobs = list(jobs)
        self._database = database
        self._evaluation = evaluation or EvaluationSettings()
        self._report = report
        self._started_job = started
        self._finished = finished
        self._stop = stop
        self._emit = emit
        self._clock = clock
        self._dispatcher = Dispatcher(
            executor, database, policy or Policy(), wanted=self._wanted, emit=emit, clock=clock
        )
        self._searches: list[JobSearch] = []
        self._pools: dict[int, Pool] = {}  # of each search, by its id
        self._of: dict[int, list[JobSearch]] = {}  # of each pool, by its id
        self._evaluating: dict[int, JobSearch] = {}
        self._awaited: dict[int, set[int]] = {}  # of a job whose budget is over: tasks that were under way then
        self._results: dict[int, JobResult] = {}
        self._failures: dict[int, NoScheduleError] = {}
        self._unready: list[NoScheduleError] = []  # of jobs whose budget ended before they could begin
        self._silent: set[int] = set()  # searches that asked for nothing since they were last told something
        self._began = clock()
        self._reported = -REPORT

    def run(self) -> list[JobResult]:
        """Search all jobs; results in the order of the jobs.

        `stop`, or a job's budget, ends the measuring: the best schedules of what is known are returned, marked as
        interrupted; a job for which nothing is known yet is left out.

        Raises:
            UsageError: a job that cannot be. NoScheduleError: a job has no schedule, or its budget was too small for
            one; all others have been finished before. DatabaseError: what was measured cannot be recorded. FarmError:
            no device is left.
        """
        try:
            return self._run()
        finally:
            self._dispatcher.close()

    @seldom_collecting()
    def _run(self) -> list[JobResult]:
        for job in self._jobs:
            if not self._stop():
                self._prepare(job)
        self._expire()
        self._ask()
        while self._open() and not self._stop():
            self._tell_progress()
            self._hear(self._dispatcher.step(POLL))
            self._expire()
            self._ask()
        if (self._open() or len(self._searches) < len(self._jobs)) and self._stop():
            self._hear(self._dispatcher.drain(DRAIN))
        elif failures := [*self._unready, *self._failures.values()]:
            raise failures[0]
        for search in self._searches:
            if id(search) not in self._results:
                with suppress(NoScheduleError):
                    self._conclude(search, None, interrupted=True)
        self._tell_progress(force=True)
        return [self._results[id(search)] for search in self._searches if id(search) in self._results]

    def _open(self) -> bool:
        """Whether some search has not come to its end."""
        return len(self._results) + len(self._failures) < len(self._searches)

    # -- stages --------------------------------------------------------------------------------------------------

    def _prepare(self, job: Job) -> None:
        self._tell_progress(f"opening {job.device}")
        pools = self._dispatcher.open(job.device)
        for pool in pools:
            # A selector of several models makes a job of each; two selectors of one make one.
            model = f"{pool.info.device.kind}?model={pool.info.device.model}"
            own = job if len(pools) == 1 else replace(job, device=model)
            same = [s.job for s in self._of.get(id(pool), [])]
            if not any(s.label == own.label and s.graph.content_hash == own.graph.content_hash for s in same):
                self._begin(own, pool)

    def _begin(self, job: Job, pool: Pool) -> None:
        note = "" if self._searches or compiled_before() else f" ({NOTE})"
        self._tell_progress(f"enumerating {job.label}{note}")
        began = self._clock()
        try:
            search = open_search(self._database, job, pool, lambda: self._unwanted(job, began))
        except EnumerationStoppedError:
            if not self._stop():
                self._unready.append(too_late(job))
            return
        self._searches.append(search)
        self._pools[id(search)] = pool
        self._of.setdefault(id(pool), []).append(search)
        self._started_job(job)
        counts = search.counts()
        self._emit(Event("job_started", {"job": job.name, "stages": counts.stages, "found": counts.found}))

    def _unwanted(self, job: Job, began: float) -> bool:
        """Whether a job whose stages are enumerated for a while is to be left. One that may measure nothing is not: it
        asks what the database knows, however long that takes.
        """
        now, budget = self._clock(), job.settings.budget
        over = budget.spent(now - self._began, 0) and not budget.spent(0, 0)
        return now - began >= POLL and (over or self._stop())

    def _withdraw(self, answer: Withdrawn) -> None:
        """What a device has told that lied: searches that rest on it begin anew with all else that is known. Bounds,
        audits and the regression have drawn from it as well, so that nothing less would be sure to forget it.
        """
        for search in list(self._of[id(answer.pool)]):
            if (
                id(search) in self._results
                or id(search) in self._failures
                or not search.ledger.rests_on(answer.numbers)
            ):
                continue
            self._tell_progress(f"beginning {search.job.label} anew without a device that lies")
            anew = open_search(self._database, search.job, answer.pool)
            anew.take_over(search)
            for searches in (self._searches, self._of[id(answer.pool)]):
                searches[searches.index(search)] = anew
            self._evaluating = {t: s for t, s in self._evaluating.items() if s is not search}
            self._pools[id(anew)] = self._pools.pop(id(search))
            if id(search) in self._awaited:
                self._awaited[id(anew)] = self._awaited.pop(id(search))
            self._silent.discard(id(search))

    def _wanted(self, pool: Pool, key: str) -> bool:
        return any(search.wants(key) for search in self._of.get(id(pool), ()))

    def _ask(self) -> None:
        """Keep every device busy, and have finished jobs evaluated."""
        hungry = {id(pool) for pool in self._dispatcher.fleet.pools if self._dispatcher.hungry(pool)}
        under_way = self._dispatcher.under_way() if self._awaited else set()
        for search in self._searches:
            if self._concluded(search):
                continue
            pool, asked = self._pools[id(search)], False
            try:
                if id(pool) in hungry and id(search) not in self._silent:
                    for request in search.next(pool.capacity).values():
                        self._dispatcher.want(pool, request)
                        asked = True
                    self._silent.update([] if asked else [id(search)])
                idle = id(pool) in hungry and search.done and not asked
                if idle or (search.expired and not self._awaited[id(search)] & under_way):
                    self._evaluate(search)
            except NoScheduleError as error:
                self._failures[id(search)] = too_small(search) or error

    def _concluded(self, search: JobSearch) -> bool:
        return self._state(search) != "searching"

    def _hear(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if not isinstance(answer, Evaluated):
                self._silent.difference_update(id(search) for search in self._of[id(answer.pool)])
            if isinstance(answer, Withdrawn):
                self._withdraw(answer)
            elif isinstance(answer, Known):
                for search in self._of[id(answer.pool)]:
                    search.tell(answer.key, answer.measurement, answer.number, found=answer.found)
            elif isinstance(answer, GivenUp):
                stage = answer.request.stage
                for search in self._of[id(answer.pool)]:
                    if search.give_up(answer.request.key):
                        what = f"{stage.describe()} ({stage.strategy})"
                        search.notes.append(f"gave up on {what}: {answer.reason}")
            else:
                self._evaluated(answer)

    def _expire(self) -> None:
        """A job whose budget is over wants no more: stages that no other job of the device wants leave the queue."""
        elapsed = self._clock() - self._began
        expired: list[JobSearch] = []
        for search in self._searches:
            over = search.job.settings.budget.spent(elapsed, 0)
            if over and not search.expired and not self._concluded(search):
                search.expire()
                expired.append(search)
                self._awaited[id(search)] = {flight.number for flight in self._pools[id(search)].flights()}
        for pool in {id(self._pools[id(search)]): self._pools[id(search)] for search in expired}.values():
            self._dispatcher.drop(pool)

    # -- answers -------------------------------------------------------------------------------------------------

    def _evaluate(self, search: JobSearch) -> None:
        if search.expired:
            search.recollect()
        job, schedules = search.job, search.runnable()
        earlier = remembered(self._database, job, search.device, schedules)
        if earlier is not None or job.settings.budget.spent(0, 0):
            self._conclude(search, earlier, interrupted=earlier is None)
            return
        task = EvaluateTask(job.graph, schedules, job.weights, job.seed, self._settings(search))
        self._evaluating[self._dispatcher.evaluate(self._pools[id(search)], task)] = search

    def _settings(self, search: JobSearch) -> EvaluationSettings:
        # What a model of a device computes is the reference itself: there is nothing to check.
        check = self._evaluation.check and not search.device.device.simulated
        return replace(self._evaluation, check=check)

    def _evaluated(self, answer: Evaluated) -> None:
        search = self._evaluating.pop(answer.ticket, None)
        if search is None:
            return  # it has begun anew since
        if answer.error:
            search.notes.append(f"not measured end to end: {answer.error}")
        self._conclude(search, answer.evaluation, interrupted=False)

    def _conclude(self, search: JobSearch, evaluation: Evaluation | None, *, interrupted: bool) -> None:
        schedules = search.schedules()
        seconds = self._clock() - self._began
        notes = [*search.job.notices, *search.notes, *self._dispatcher.fleet.notes]
        interrupted |= not search.complete
        notes += how_it_ended(search, interrupted)
        result = verdict(search, schedules, evaluation, seconds, interrupted, notes)
        self._results[id(search)] = result
        self._finished(result)
        fields = {"job": search.job.name, "chosen": result.chosen, "interrupted": interrupted, "seconds": seconds}
        self._emit(Event("job_finished", {**fields, "gap": search.gap}))

    # -- progress ------------------------------------------------------------------------------------------------

    def progress(self, message: str = "") -> Progress:
        """The state of the run."""
        now, fleet = self._clock(), self._dispatcher.fleet
        jobs = [progress.job_progress(search, self._state(search)) for search in self._searches]
        prepared = {search.job.label for search in self._searches}
        jobs += [JobProgress(j.name, 0, 0, 0, 0, 0, None, "waiting") for j in self._jobs if j.label not in prepared]
        elapsed = now - self._began
        measured = sum(member.measured for member in fleet.past_and_present())
        return Progress(
            jobs,
            progress.device_progress(fleet, now),
            measured / elapsed if elapsed > 0 else 0.0,
            progress.held(fleet.pools),
            elapsed,
            message,
            progress.failures(fleet),
        )

    def _state(self, search: JobSearch) -> str:
        if id(search) in self._results or id(search) in self._failures:
            return "done"
        return "checking" if any(other is search for other in self._evaluating.values()) else "searching"

    def _tell_progress(self, message: str = "", *, force: bool = False) -> None:
        now = self._clock()
        if message or force or now - self._reported >= REPORT:
            self._reported = now
            self._report(self.progress(message or ("checking schedules end to end" if self._evaluating else "")))
