"""The devices of a search: in pools, up or down, busy, hung, believed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.dispatch.pool import Flight, Member, Pool, Purpose
from iosfarm.farm.dispatch.trust import canaries
from iosfarm.farm.events import Event, Sink
from iosfarm.farm.executors.executor import Change, DeviceInfo, Executor, MeasureTask, Outcome, Task, Turn, Unopened
from iosfarm.ir.errors import IosfarmError
from iosfarm.workers.failures import Failure


class FarmError(IosfarmError):
    """No device is left to measure on."""


class Fleet:
    """All devices of an executor that a driver uses. Devices of the same model and environment form a pool."""

    def __init__(self, executor: Executor, policy: Policy, emit: Sink, clock: Callable[[], float]) -> None:
        self.pools: list[Pool] = []
        self.notes: list[str] = []
        self.quarantined: dict[str, Member] = {}
        self.left: list[Member] = []  # with what they had measured, and their failures
        self.distrusted: list[tuple[Pool, Member, str]] = []  # whose earlier measurements are to be flagged
        self._executor = executor
        self._policy = policy
        self._emit = emit
        self._clock = clock
        self._flying: dict[int, tuple[Pool, Member, Flight]] = {}

    def open(self, selector: str) -> list[Pool]:
        """The pools that the devices of a selector are in, opened if they are not yet."""
        pools: dict[int, Pool] = {}
        for info in self._executor.open(selector):
            pool = self._admit(info, new_pool=True)
            if pool is not None:
                pools[id(pool)] = pool
        return list(pools.values())

    def _admit(self, info: DeviceInfo, *, new_pool: bool) -> Pool | None:
        pool = next((p for p in self.pools if p.info.pool == info.pool), None)
        if pool is None:
            if not new_pool:
                return None
            pool = Pool(info, self._policy)
            self.pools.append(pool)
        if info.name not in pool.members and info.name not in self.quarantined:
            pool.members[info.name] = Member(info, self._clock())
            pool.empty_since = None
            fields = {"device": info.name, "kind": info.device.kind, "model": info.device.model, "node": info.node}
            self._emit(Event("device_joined", fields))
        return pool

    # -- what happens to devices ---------------------------------------------------------------------------------

    def turn(self, needed: Callable[[Pool], bool]) -> None:
        """See who came, went, or hangs.

        Raises:
            FarmError: a pool that is needed has had no device for too long.
        """
        for change in self._executor.changes():
            self._changed(change)
        now = self._clock()
        for pool in self.pools:
            for member in pool.up:
                self._check_hang(pool, member, now)
            if pool.members or not needed(pool):
                pool.empty_since = None
            elif pool.empty_since is None:
                pool.empty_since = now
                self._emit(Event("no_device_left", {"pool": pool.info.device.model}))
            elif now - pool.empty_since >= self._policy.absence:
                gone = [f"{name} is not believed" for name in self.quarantined] or ["their workers ended"]
                raise FarmError(
                    f"no device is left: {'; '.join(gone[:3])}",
                    where=pool.info.device.model,
                    hint="what was measured is kept: mend the devices, and the same command goes on from there",
                )

    def _changed(self, change: Change | Unopened) -> None:
        if isinstance(change, Unopened):
            self.notes.append(f"{change.name} did not open, and was not used: {change.reason}")
            self._emit(Event("device_unopened", {"device": change.name, "reason": change.reason}))
            return
        name = change.info.name
        found = next((p for p in self.pools if name in p.members), None)
        if change.turn is Turn.JOINED:
            if self._admit(change.info, new_pool=False) is None:
                fields = {"device": name, "model": change.info.device.model, "node": change.info.node}
                self._emit(Event("device_unused", fields))
            return
        if found is None:
            return
        found.trust.forget(name)
        found.members[name].up = change.turn is Turn.RESTORED
        if change.turn is Turn.LEFT:
            self.left.append(found.members.pop(name))
        self._emit(Event(f"device_{change.turn}", {"device": name, "reason": change.reason}))

    def _check_hang(self, pool: Pool, member: Member, now: float) -> None:
        if not member.flights or (begun := member.flights[0].begun) is None:
            return
        flight = member.flights[0]
        limit = self._policy.evaluation_hang
        if flight.purpose is not Purpose.EVALUATE:
            limit = pool.pace.deadline(flight.effort, len(flight.stages), flight.size)
        if now - begun > limit:
            flight.begun = None  # asked once
            self._executor.restart(member.name, Failure.HUNG, f"no answer for {now - begun:.0f} s")

    # -- tasks ---------------------------------------------------------------------------------------------------

    def submit(self, member: Member, task: Task, purpose: Purpose) -> Flight:
        """Give a device a task."""
        pool = next(p for p in self.pools if p.members.get(member.name) is member)
        flight = Flight(self._executor.submit(member.name, task), purpose)
        flight.begun = None if member.flights else self._clock()
        member.flights.append(flight)
        self._flying[flight.number] = pool, member, flight
        return flight

    def landed(self, outcome: Outcome) -> tuple[Pool, Member, Flight] | None:
        """The task that has ended, None where nobody asks for it any more."""
        found = self._flying.pop(outcome.task, None)
        if found is not None:
            _, member, flight = found
            member.flights.remove(flight)
            member.seconds += outcome.seconds
            if member.flights and member.flights[0].begun is None:
                member.flights[0].begun = self._clock()
        return found

    def able(self, pool: Pool) -> list[Member]:
        """Devices that are up and believed."""
        if not pool.has_peers:
            return pool.up
        return [member for member in pool.up if pool.trust.entered(member.name)]

    # -- whom to believe -----------------------------------------------------------------------------------------

    def gate(self, pool: Pool) -> None:
        """Have the canaries of devices measured that have peers, and were not asked yet."""
        if not pool.has_peers:
            return
        for member in pool.up:
            if not member.flights and not pool.trust.entered(member.name):
                texts = tuple(stage.canonical for stage in canaries(pool.info.layout))
                self.submit(member, MeasureTask(texts), Purpose.CANARY)

    def entered(self, pool: Pool, member: Member, outcome: Outcome) -> None:
        """What a device's canaries took."""
        seconds = {m.stage_key: m.median for m in outcome.measurements if m.ok}
        references = [m.conditions.get("reference") for m in outcome.measurements if m.ok]
        if not seconds:
            member.refused += outcome.failure is not Failure.LOST
            if member.refused >= self._policy.attempts:
                why = outcome.error or next((m.reason for m in outcome.measurements), "")
                self._quarantine(pool, member, Failure.DISAGREES, f"its canary stages cannot be measured: {why}")
            return
        member.refused = 0
        reference = references[0] if references and isinstance(references[0], int | float) else 0.0
        pool.trust.enter(member.name, seconds, reference or min(seconds.values()))
        for name, reason in pool.trust.liars().items():
            if name in pool.members:
                self._quarantine(pool, pool.members[name], Failure.DISAGREES, reason)
        if (note := pool.trust.disputed()) and note not in self.notes:
            self.notes.append(note)

    def beside(self, member: Member, outcome: Outcome) -> None:
        """Say once where another process was at work on a device, see `iosfarm.workers.turns`."""
        note = f"{member.name} was not ours alone: another program measured on it for longer than its turn"
        if note not in self.notes and any(m.conditions.get("shared") for m in outcome.measurements):
            self.notes.append(note)

    def struck(self, pool: Pool, member: Member) -> None:
        """See whether a device has drifted for good."""
        if member.name not in pool.members or not pool.trust.struck_out(member.name):
            return
        if [other for other in self.able(pool) if other is not member]:
            self._quarantine(
                pool, member, Failure.DRIFT, "its reference stage no longer takes what it took at its start"
            )
            return
        pool.trust.rebase(member.name)
        self.notes.append(f"{member.name} drifts: it no longer takes what it took at its start")

    def _quarantine(self, pool: Pool, member: Member, failure: Failure, reason: str) -> None:
        del pool.members[member.name]
        pool.trust.forget(member.name)
        member.up = False
        member.failures[failure] += 1
        self.quarantined[member.name] = member
        self.notes.append(f"{member.name} is not believed: {reason}")
        if failure is Failure.DISAGREES and member.measured:
            self.distrusted.append((pool, member, reason))
        self._emit(Event("device_quarantined", {"device": member.name, "kind": failure, "reason": reason}))
        self._executor.drop(member.name)

    def members(self) -> Iterable[tuple[Pool, Member]]:
        """All devices that are in use."""
        return ((pool, member) for pool in self.pools for member in pool.members.values())

    def past_and_present(self) -> Iterable[Member]:
        """All devices that are in use, or were."""
        return (*(member for _, member in self.members()), *self.quarantined.values(), *self.left)
