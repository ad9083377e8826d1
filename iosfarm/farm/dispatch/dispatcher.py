"""Wanted stages to devices, and what becomes of them: leases, records, failures, devices that come and go.

Jobs know nothing of devices: they want stages of a pool, and are answered. See `Policy` for what failures lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, sleep

from iosfarm.db import LatencyDatabase
from iosfarm.farm.dispatch.fleet import Fleet
from iosfarm.farm.dispatch.judging import Verdicts, sort_out
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.dispatch.pool import Flight, Member, Pool, Purpose
from iosfarm.farm.dispatch.sharing import Sharing
from iosfarm.farm.dispatch.sharing_plans import SharingPlans
from iosfarm.farm.dispatch.stage_queue import Wanted
from iosfarm.farm.events import Event, Sink
from iosfarm.farm.executors.executor import EvaluateTask, Executor, MeasureTask, Outcome
from iosfarm.farm.jobs.request import Request
from iosfarm.ir.measurement import Measurement
from iosfarm.workers.evaluating import Evaluation
from iosfarm.workers.failures import Failure

IDLE = 0.05
"""Seconds between two looks where no device of ours has anything to do."""


@dataclass(frozen=True)
class Known:
    """A usable measurement of a stage, and its id in the database. found: another driver made it."""

    pool: Pool
    key: str
    measurement: Measurement
    number: int
    found: bool


@dataclass(frozen=True)
class GivenUp:
    """A stage that has failed too often."""

    pool: Pool
    request: Request
    reason: str


@dataclass(frozen=True)
class Evaluated:
    """What became of a network that was run whole; evaluation None: why not."""

    ticket: int
    evaluation: Evaluation | None
    error: str = ""


@dataclass(frozen=True)
class Withdrawn:
    """Measurements that were told of and are not to be believed, by their ids in the database."""

    pool: Pool
    numbers: frozenset[int]


Answer = Known | GivenUp | Evaluated | Withdrawn


@dataclass
class _Ticket:
    pool: Pool
    task: EvaluateTask
    attempts: int = 0


class Dispatcher:
    """One driver's devices. `step` again and again; not safe to share between threads."""

    def __init__(
        self,
        executor: Executor,
        database: LatencyDatabase,
        policy: Policy,
        *,
        wanted: Callable[[Pool, str], bool],
        emit: Sink = lambda event: None,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        """wanted: whether a stage is still waited for."""
        self._executor = SharingPlans(executor, database)
        self.fleet = Fleet(self._executor, policy, emit, clock)
        self._database = database
        self._policy = policy
        self._wanted = wanted
        self._emit = emit
        self._clock = clock
        self._sleep = sleep
        self._sharing = Sharing(database, policy, clock)
        self._tickets: dict[int, _Ticket] = {}
        self._ready: list[int] = []  # tickets that wait for a device
        self._answers: list[Answer] = []

    def open(self, selector: str) -> list[Pool]:
        """Open the devices of a selector; the pools they are in.

        Raises what `Executor.open` raises.
        """
        return self.fleet.open(selector)

    def want(self, pool: Pool, request: Request) -> None:
        """Have a stage measured, or told by whoever measures it; wanting it twice wants it once."""
        pool.want(request)

    def evaluate(self, pool: Pool, task: EvaluateTask) -> int:
        """Have a network run whole; the answer has this ticket."""
        ticket = len(self._tickets)
        self._tickets[ticket] = _Ticket(pool, task)
        self._ready.append(ticket)
        return ticket

    def hungry(self, pool: Pool) -> bool:
        """Whether devices are about to run out of work: asking before that would be asking with less knowledge."""
        waiting = len(pool.queue) + pool.unclaimed
        free = sum(max(0, pool.ahead - len(member.flights)) for member in pool.up)
        return (waiting == 0 and free > 0) or waiting < free * pool.pace.most // 2

    def under_way(self) -> set[int]:
        """Numbers of the tasks that devices have."""
        return {flight.number for pool in self.fleet.pools for flight in pool.flights()}

    def drop(self, pool: Pool) -> None:
        """Forget the stages that nobody waits for any more."""
        self._sharing.release(pool, pool.drop(lambda key: self._wanted(pool, key)))

    def step(self, timeout: float) -> list[Answer]:
        """Feed the devices, wait for something to end, and see what it was.

        Raises:
            DatabaseError: what was measured cannot be recorded. FarmError: no device is left.
        """
        self.fleet.turn(self._needed)
        self._sharing.beat()
        self._feed()
        if not self._answers:
            if not any(True for pool in self.fleet.pools for _ in pool.flights()):
                self._sleep(min(timeout, IDLE))  # other drivers are at work, or devices start
            self._take(self._executor.wait(timeout))
        self._flag()
        answers, self._answers = self._answers, []
        return answers

    def drain(self, timeout: float) -> list[Answer]:
        """Before stopping: what is under way is waited for and recorded, the rest is left to others."""
        self._take(self._executor.drain(timeout))
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Give all leases back."""
        self._sharing.close()

    def _flag(self) -> None:
        """What a device has measured that turns out to lie is not to be believed by anybody."""
        while self.fleet.distrusted:
            pool, member, reason = self.fleet.distrusted.pop()
            flagged = self._database.quarantine(member.info.device, member.joined, reason)
            if flagged:
                pool.withdraw(flagged)
                self._answers.append(Withdrawn(pool, frozenset(flagged)))
                note = f"{len(flagged)} measurements of {member.name} were flagged: what rests on them is made anew"
                self.fleet.notes.append(note)
                self._emit(Event("measurements_flagged", {"device": member.name, "count": len(flagged)}))

    # -- to devices ----------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        for pool in self.fleet.pools:
            self._answers += [
                Known(pool, key, recorded.measurement, recorded.id, True)
                for key, recorded in self._sharing.claim(pool).items()
            ]
            self.fleet.gate(pool)
            if not pool.gating():
                self._hand_out(pool)
        for ticket in [t for t in self._ready if self._tickets[t].pool.up]:
            self._ready.remove(ticket)
            member = self._tickets[ticket].pool.least_busy()
            assert member is not None
            flight = self.fleet.submit(member, self._tickets[ticket].task, Purpose.EVALUATE)
            flight.ticket = ticket

    def _hand_out(self, pool: Pool) -> None:
        """One task for each device that has none, then those that are to wait there."""
        able = self.fleet.able(pool)
        names = [member.name for member in able]
        for depth in range(pool.ahead):
            for member in able:
                if len(member.flights) > depth or not len(pool.queue):
                    continue
                # Towards the end, what is left is shared out.
                most = min(pool.pace.most, -(-len(pool.queue) // len(able)))
                stages = pool.queue.take(member.name, names, most, pool.size, pool.pace.fitting)
                if stages:
                    effort, size = stages[0].effort, sum(pool.size(wanted.request) for wanted in stages)
                    task = MeasureTask(tuple(wanted.request.text for wanted in stages), effort)
                    flight = self.fleet.submit(member, task, Purpose.MEASURE)
                    flight.effort, flight.size = effort, size
                    flight.stages = {wanted.key: wanted for wanted in stages}

    # -- from devices --------------------------------------------------------------------------------------------

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        """All that has ended, recorded in as few transactions as there are devices."""
        verdicts: list[Verdicts] = []
        for outcome in outcomes:
            landed = self.fleet.landed(outcome)
            if landed is None:
                continue
            pool, member, flight = landed
            if outcome.failure not in (None, Failure.LOST):
                self._count(member, outcome.failure, 1, outcome.error)
            if flight.purpose is Purpose.CANARY:
                self.fleet.entered(pool, member, outcome)
            elif flight.purpose is Purpose.EVALUATE:
                self._evaluated(flight, outcome)
            else:
                verdicts.append(self._sort(pool, member, flight, outcome))
        for pool, number, verdict, wanted in self._sharing.record(verdicts):
            self._settle(pool, number, verdict, wanted)

    def _sort(self, pool: Pool, member: Member, flight: Flight, outcome: Outcome) -> Verdicts:
        verdicts = sort_out(pool, member, flight, outcome)
        ended = len(verdicts.usable)
        member.measured += ended
        for failure, count in verdicts.failures.items():
            self._count(member, failure, count, verdicts.reason)
        if ended:
            pool.pace.learn(flight.effort, len(flight.stages), flight.size, outcome.seconds)
            fields = {"device": member.name, "stages": ended, "seconds": outcome.seconds, "effort": flight.effort}
            self._emit(Event("task_done", fields))
        self.fleet.beside(member, outcome)
        self.fleet.struck(pool, member)
        again = [w for w in verdicts.again if self._wanted(pool, w.key) and w.failures < self._policy.attempts]
        pool.queue.put_back(again)
        kept = {wanted.key for wanted in again}
        gone = [wanted for wanted in verdicts.again if wanted.key not in kept]
        pool.queue.done([wanted.key for wanted in gone])
        pool.queue.done(verdicts.usable)
        self._sharing.release(pool, [wanted.key for wanted in gone])
        for wanted in gone:
            if wanted.failures >= self._policy.attempts:
                reason = verdicts.reasons.get(wanted.key, verdicts.reason)
                self._answers.append(GivenUp(pool, wanted.request, reason))
                fields = {"stage": wanted.key, "what": wanted.request.stage.describe(), "reason": reason}
                self._emit(Event("stage_given_up", fields))
        return verdicts

    def _settle(self, pool: Pool, number: int, measurement: Measurement, wanted: Wanted) -> None:
        pool.ids[wanted.key] = number
        self._answers.append(Known(pool, wanted.key, measurement, number, False))

    def _evaluated(self, flight: Flight, outcome: Outcome) -> None:
        ticket = self._tickets[flight.ticket]
        ticket.attempts += outcome.failure is not Failure.LOST
        if outcome.evaluation is None and ticket.attempts < self._policy.attempts and outcome.failure in _PASSING:
            self._ready.append(flight.ticket)
            return
        self._answers.append(Evaluated(flight.ticket, outcome.evaluation, outcome.error))

    def _needed(self, pool: Pool) -> bool:
        return (
            not pool.idle
            or any(True for _ in pool.flights())
            or any(self._tickets[t].pool is pool for t in self._ready)
        )

    def _count(self, member: Member, failure: Failure, count: int, reason: str) -> None:
        member.failures[failure] += count
        self._emit(Event("failed", {"device": member.name, "kind": failure, "count": count, "reason": reason}))


_PASSING = (Failure.KILLED, Failure.HUNG, Failure.LOST, Failure.OUT_OF_MEMORY)
"""Failures after which a network is run again; what it raises, it raises again."""
