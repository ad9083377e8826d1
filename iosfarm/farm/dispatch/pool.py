"""A pool: devices that stand in for each other, and what they still have to measure."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from iosfarm.farm.dispatch.pace import Pace
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.dispatch.stage_queue import RANK, StageQueue, Wanted
from iosfarm.farm.dispatch.trust import Trust
from iosfarm.farm.executors.executor import MEASURES_AHEAD, DeviceInfo
from iosfarm.farm.jobs.request import Request
from iosfarm.search.latency_model import LatencyModel
from iosfarm.workers.failures import Failure
from iosfarm.workers.settings import EFFORTS, Effort

_BEST_FIRST = sorted(Effort, key=lambda effort: -RANK[effort])


class Purpose(StrEnum):
    """What a task is for."""

    MEASURE = "measure"
    CANARY = "canary"
    EVALUATE = "evaluate"


@dataclass
class Flight:
    """A task that is on a device, or queued there. begun: when it became the first there, None before. ticket: of the
    network that is run.
    """

    number: int
    purpose: Purpose
    effort: Effort = Effort.NORMAL
    stages: Mapping[str, Wanted] = field(default_factory=dict)
    size: float = 0.0
    begun: float | None = None
    ticket: int = -1


@dataclass
class Member:
    """One device of a pool. up: a worker is there. seconds: that it was busy. since: when it joined, by the driver's
    clock; joined: by the calendar. refused: how often its canaries could not be measured.
    """

    info: DeviceInfo
    since: float
    joined: datetime = field(default_factory=lambda: datetime.now(UTC))
    up: bool = True
    refused: int = 0
    flights: deque[Flight] = field(default_factory=deque)
    measured: int = 0
    seconds: float = 0.0
    failures: Counter[Failure] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """As the executor knows it."""
        return self.info.name


class Pool:
    """Equal devices, their queue, and what was learned of them. `info` describes any of them."""

    def __init__(self, info: DeviceInfo, policy: Policy) -> None:
        self.info = info
        self.members: dict[str, Member] = {}
        self.queue = StageQueue()
        self.held: dict[str, Request] = {}  # by other drivers
        self.looked = 0.0  # when it was asked last what became of them
        self.ids: dict[str, int] = {}  # of the newest measurement that is known here, by stage
        self.model = LatencyModel()
        self.pace = Pace(info.device.simulated, policy)
        processor = info.device.kind == "cpu"
        self.trust = Trust(policy.cpu_tolerance if processor else policy.tolerance, policy.strikes)
        self.empty_since: float | None = None
        self.opened = False  # the first canaries are known
        self._unclaimed: dict[Effort, OrderedDict[str, Request]] = {effort: OrderedDict() for effort in Effort}

    @property
    def up(self) -> list[Member]:
        """Devices with a worker."""
        return [member for member in self.members.values() if member.up]

    @property
    def has_peers(self) -> bool:
        """Whether there are devices to compare with each other."""
        return len(self.members) > 1

    @property
    def judged(self) -> bool:
        """Whether canaries decide: a processor alone is disturbed too often, and the protocol deals with that."""
        return self.has_peers or self.info.device.kind != "cpu"

    @property
    def ahead(self) -> int:
        """Tasks that a device is given at once. A processor that decides what is next as well is not to do both."""
        return 1 if self.info.device.kind == "cpu" and not self.has_peers else MEASURES_AHEAD

    @property
    def places(self) -> int:
        """Tasks that all devices take at once."""
        return max(1, len(self.up)) * self.ahead

    @property
    def capacity(self) -> int:
        """Stages in so many tasks at most."""
        return self.places * self.pace.most

    @property
    def digestible(self) -> int:
        """Of the stages that are wanted, those in so many tasks, going by what devices have taken so far. To claim more
        would keep them from other drivers, who might have nothing else to do towards the end.
        """
        effort, requests = next(((e, r) for e in _BEST_FIRST if (r := self._unclaimed[e])), (Effort.NORMAL, {}))
        sizes = [self.size(request) for request in islice(requests.values(), self.pace.most)]
        return self.places * max(1, self.pace.fitting(effort, sizes))

    def size(self, request: Request) -> float:
        """Of a stage, for its pace: on a model of a device all take as long."""
        return 0.0 if self.info.device.simulated else request.size

    # -- stages --------------------------------------------------------------------------------------------------

    def want(self, request: Request) -> None:
        """A stage to measure, unless it is queued or under way with as much effort."""
        key, rank = request.key, RANK[request.effort]
        if self.queue.covers(key, request.effort):
            return
        if key in self.held:
            if rank > RANK[self.held[key].effort]:
                self.held[key] = request
            return
        for effort, requests in self._unclaimed.items():
            if key in requests:
                if RANK[effort] >= rank:
                    return
                del requests[key]
        self._unclaimed[request.effort][key] = request

    @property
    def unclaimed(self) -> int:
        """Stages that are wanted, and not yet claimed."""
        return sum(map(len, self._unclaimed.values()))

    def next_to_claim(self, most: int) -> list[Request]:
        """Takes them, those first that are to be known best. One that is under way has to be told before."""
        chosen: list[Request] = []
        for effort in _BEST_FIRST:
            free = (request for key, request in self._unclaimed[effort].items() if not self.queue.is_flying(key))
            chosen += islice(free, most - len(chosen))
        for request in chosen:
            del self._unclaimed[request.effort][request.key]
        return chosen

    def enough(self, request: Request, samples: int) -> bool:
        """Whether a measurement with so many samples is what was asked for."""
        return samples >= EFFORTS[request.effort].min_samples

    def withdraw(self, flagged: Mapping[int, str]) -> None:
        """Forget measurements that are not to be believed, ids and stage keys, and what was learned from them."""
        self.ids = {key: number for key, number in self.ids.items() if number not in flagged}
        self.model = LatencyModel()

    def drop(self, keep: Callable[[str], bool]) -> list[str]:
        """Forget stages that nobody wants; returns those that were claimed."""
        for waiting in (*self._unclaimed.values(), self.held):
            for key in [key for key in waiting if not keep(key)]:
                del waiting[key]
        return self.queue.drop(keep)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be measured."""
        return not len(self.queue) and not self.unclaimed and not self.held

    # -- tasks ---------------------------------------------------------------------------------------------------

    def flights(self) -> Iterable[Flight]:
        """All tasks under way."""
        return (flight for member in self.members.values() for flight in member.flights)

    def gating(self) -> bool:
        """Whether the first canaries are under way: until they are known, nobody is believed."""
        if not self.opened:
            self.opened = not any(flight.purpose is Purpose.CANARY for flight in self.flights())
        return not self.opened

    def least_busy(self) -> Member | None:
        """A device for a task that any can do."""
        return min(self.up, key=lambda member: len(member.flights), default=None)
