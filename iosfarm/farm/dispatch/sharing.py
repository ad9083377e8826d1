"""Several drivers on one database: who measures what, and what is recorded."""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from iosfarm.db import Batch, DatabaseError, LatencyDatabase
from iosfarm.db.measurements import Recorded
from iosfarm.farm.dispatch.judging import Verdicts
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.dispatch.pool import Pool
from iosfarm.farm.dispatch.stage_queue import Wanted
from iosfarm.farm.jobs.request import Request
from iosfarm.ir.measurement import Measurement, Status

Settled = tuple[Pool, int, Measurement, Wanted]


class Sharing:
    """One driver's leases and records. What another one holds is asked for again, until it is measured or free."""

    def __init__(self, database: LatencyDatabase, policy: Policy, clock: Callable[[], float]) -> None:
        self.owner = f"{_machine()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._database = database
        self._policy = policy
        self._clock = clock
        self._beat = clock()
        self._leased = False
        self._inherited = False
        _living.add(self.owner)

    def claim(self, pool: Pool) -> dict[str, Recorded]:
        """Claims what the pool's devices need next, and looks at what others held; returns what is measured already."""
        known: dict[str, Recorded] = {}
        if not self._inherited and pool.unclaimed:
            self._inherited = True
            self._bury()
        now = self._clock()
        busy = any(True for _ in pool.flights())
        if pool.held and now - pool.looked >= (self._policy.look if busy else self._policy.look_idle):
            pool.looked = now
            known.update(self._claim(pool, list(pool.held.values())))
        # Half of what fills all devices is a reserve that lasts until the next claim.
        while pool.unclaimed and len(pool.queue) < (most := pool.digestible) // 2 + 1:
            requests = pool.next_to_claim(most)
            if not requests:
                break
            known.update(self._claim(pool, requests))
        return known

    def _claim(self, pool: Pool, requests: Sequence[Request]) -> dict[str, Recorded]:
        keys = [request.key for request in requests]
        before = {key: pool.ids[key] for key in keys if key in pool.ids}
        info = pool.info
        claims = self._database.claim_stages(
            keys, info.device, info.environment, self.owner, self._policy.lease, known=before
        )
        self._leased |= bool(claims.granted)
        for request in requests:
            pool.held.pop(request.key, None)
            if request.key in claims.granted:
                pool.queue.add(request)
            elif request.key in claims.held:
                pool.held[request.key] = request
            else:
                recorded = claims.measured[request.key]
                pool.ids[request.key] = recorded.id
                infeasible = recorded.measurement.status is Status.INFEASIBLE
                if not infeasible and not pool.enough(request, len(recorded.measurement.samples)):
                    pool.want(request)  # another driver has measured it, but less well
        return dict(claims.measured)

    def record(self, verdicts: Iterable[Verdicts]) -> list[Settled]:
        """What has been measured, in one transaction; leases of what is known end with it."""
        heard = list(verdicts)
        usable = [(verdict, list(verdict.usable.values())) for verdict in heard if verdict.usable]
        numbers = self._database.record_all([_batch(verdict, pairs) for verdict, pairs in usable], owner=self.owner)
        self._database.record_all([_batch(verdict, verdict.told) for verdict in heard if verdict.told])
        return [
            (verdict.pool, number, measurement, wanted)
            for (verdict, pairs), ids in zip(usable, numbers, strict=True)
            for (measurement, wanted), number in zip(pairs, ids, strict=True)
        ]

    def release(self, pool: Pool, keys: Sequence[str]) -> None:
        """Leases of stages that nobody here wants any more."""
        if keys:
            self._database.release_stages(keys, pool.info.device, pool.info.environment, self.owner)

    def beat(self) -> None:
        """Tell that this driver is alive, when it is time."""
        now = self._clock()
        if self._leased and now - self._beat >= self._policy.beat:
            self._database.heartbeat(self.owner, self._policy.lease)
            self._beat = now

    def _bury(self) -> None:
        """A driver of this machine that was killed holds its leases until they expire: end them."""
        for owner in self._database.lease_owners():
            if _dead(owner):
                self._database.release(owner)

    def close(self) -> None:
        """Give all leases back; where the database is away they expire, or the next driver here ends them."""
        _living.discard(self.owner)
        if self._leased:
            with suppress(DatabaseError):
                self._database.release(self.owner)


_living: set[str] = set()
"""The owners of this process."""


def _machine() -> str:
    """Where process numbers mean the same: a machine since it was started, and in it a container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return f"{platform.node()}/{uuid.uuid4().hex[:12]}"
    return f"{platform.node()}/{hashlib.sha256((boot + space).encode()).hexdigest()[:12]}"


def _dead(owner: str) -> bool:
    """Whether a lease's owner was a process of this machine that is no more."""
    machine, _, rest = owner.partition(":")
    process = rest.partition(":")[0]
    if machine != _machine() or not process.isdigit():
        return False
    if int(process) == os.getpid():
        return owner not in _living
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _batch(verdict: Verdicts, pairs: Iterable[tuple[Measurement, Wanted]]) -> Batch:
    info = verdict.member.info
    return Batch([(wanted.request.summary, m) for m, wanted in pairs], info.device, info.environment)
