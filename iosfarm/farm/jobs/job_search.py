"""One job under search: what it asks for, and what it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from iosfarm.farm.executors.executor import DeviceInfo
from iosfarm.farm.jobs.job import Job
from iosfarm.farm.jobs.job_knowledge import JobKnowledge
from iosfarm.farm.jobs.memory import Memory, look_elsewhere
from iosfarm.farm.jobs.refining import Refined, Refining
from iosfarm.farm.jobs.request import Request
from iosfarm.ir.measurement import Measurement
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.search.bounds import Kind
from iosfarm.search.copies import copies
from iosfarm.search.latency_model import LatencyModel
from iosfarm.search.racing import NEAR, doubtful
from iosfarm.workers.settings import Effort

MOST_CHECKS = 100
"""How often stages of the best schedules are measured again: each time another one may turn out the best. It ends by
itself long before, when they hold no stage in doubt."""

REPEATS = 16
"""Units that are measured twice."""

MOST_COPIES = 8
"""Copies of a unit that show what the device can do of it, where the groups of a stage have no limit."""


class JobSearch(JobKnowledge):
    """A job's parts being solved. model: what is learned on the device so far. memory: what the database holds of the
    job's refinements, which lie outside of the search space.
    """

    def __init__(
        self,
        job: Job,
        device: DeviceInfo,
        model: LatencyModel | None = None,
        memory: Memory | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(job, device, model, stop)
        self._memory = memory
        self._waiting: dict[str, Effort] = {}
        self._spent: set[str] = set()  # of the budget's stages
        self._looked_back = False
        self._steadied = False
        self._checks = 0
        self.expired = False

    # -- asking --------------------------------------------------------------------------------------------------

    def next(self, most: int) -> dict[str, Request]:
        """Stages to measure next, about `most`, by key; what was asked for before is not repeated. Empty while only
        answers help, and when the job is `done`.

        Raises:
            NoScheduleError: see `schedules`.
        """
        if self.expired:
            return {}
        requests = {
            key: Request.of(stage, Effort.NORMAL)
            for key, stage in self._baseline.items()
            if key not in self._waiting and not self.ledger.settled(key)
        }
        requests.update(self._saturating())
        limit = self._stages_left()
        settled = not requests and not self._waiting and self._settled()
        if not settled:
            if self._memory is not None and self.job.settings.method.name == "certified":
                self.notes += look_elsewhere(self.search, self._memory)
            requests.update(self._repeated())
            requests.update(self._asked(self.search.ask(min(most, limit)) if limit else []))
        if not requests and not self._waiting:
            requests = self._doubts(self._doubtful()) if not settled else {}
            if not requests and limit and not settled:
                # The gap is reached but for noise, and what noise there was has been reduced.
                requests = self._asked(self.search.ask(min(most, limit), despite_noise=True))
            if not requests:
                requests = self._refine(min(most, limit))
        requests = self._affordable(requests, limit)
        self._waiting.update((key, request.effort) for key, request in requests.items())
        return requests

    def _settled(self) -> bool:
        """Whether this same search has been done before: it is not to measure anything again, though the same
        latencies, all known from the start, may give another regression and another gap.
        """
        if self.search.rounds == 0 and not self._looked_back and self._memory is not None:
            self._looked_back = True
            if all(np.isfinite(self.search.seconds[number]) for number in self.search.units):
                self._earlier = self._memory.finished()
            if self._earlier is not None:
                self.search.resume()
        return self.search.rounds == 0 and self._earlier is not None

    def _repeated(self) -> dict[str, Request]:
        """The longest units once more, as soon as they are known: much rests on them, and what lies between two
        measurements of one stage says how steady the device is.
        """
        units = [number for number in self.search.units if np.isfinite(self.search.seconds[number])]
        if self._steadied or self.job.settings.method.name != "certified" or len(units) < len(self.search.units):
            return {}
        self._steadied = True
        keys = {self.search.factory.key_of(n): n for n in sorted(units, key=lambda n: -self.search.seconds[n])}
        missing = min(REPEATS, len(keys)) - len(self.ledger.sure & keys.keys())
        again = [key for key in keys if key not in self.ledger.sure][: max(0, missing)]
        return {key: Request.of(self._stage(keys[key]), Effort.CAREFUL) for key in again}

    def _saturating(self) -> dict[str, Request]:
        """For structural bounds: as many copies of each unit as a stage may have groups."""
        method = self.job.settings.method
        if method.name != "certified" or method.certificate != "structural":
            return {}
        if not self._copies:
            count = self.job.settings.space.max_groups or MOST_COPIES
            for number in self.search.units:
                stage = Stage.from_json(copies(self.search.factory.canonical_of(number), count))
                self._copies[stage.key] = number, stage
            self._recall(self._copies)
        new = {
            key: item for key, item in self._copies.items() if key not in self.ledger.known and key not in self._waiting
        }
        return {key: Request.of(s, Effort.NORMAL) for key, (_, s) in new.items() if key not in self.ledger.given_up}

    def _affordable(self, requests: Mapping[str, Request], limit: int) -> dict[str, Request]:
        """What is not under way, and within the budget's stages; those known already cost nothing of it."""
        chosen: dict[str, Request] = {}
        for key, request in requests.items():
            new = key not in self.ledger.known and key not in self._spent
            if key in self._waiting or (new and limit <= 0):
                continue
            limit -= new
            chosen[key] = request
            self._spent.update([key] if new else [])
        return chosen

    def _asked(self, numbers: Sequence[int]) -> dict[str, Request]:
        certified = self.job.settings.method.name == "certified"
        requests = {}
        for number in numbers:
            quick = certified and self.search.kind[number] != Kind.UNIT
            effort = Effort.QUICK if quick else Effort.NORMAL
            key = self.search.factory.key_of(number)
            requests[key] = Request(key, self.search.factory.canonical_of(number), effort)
        return requests

    def _stages_left(self) -> int:
        """Stages that the budget allows still."""
        most = self.job.settings.budget.stages
        if most is None:
            return 2**31
        return max(0, most - len(self._spent))

    def _stage(self, number: int) -> Stage:
        return Stage.from_json(self.search.factory.canonical_of(number))

    def _doubtful(self) -> dict[str, Request]:
        """Stages of the best schedules that rest on few samples: the best of many noisy latencies is too good."""
        self.schedules()  # raises where there is none
        certified = self.job.settings.method.name == "certified"
        sure = {self._class[key] for key in self.ledger.sure if key in self._class}
        numbers = doubtful(self.search, sure, NEAR if certified else 0.0)
        return {request.key: request for request in (self._careful(number) for number in numbers)}

    def _careful(self, number: int) -> Request:
        factory = self.search.factory
        return Request(factory.key_of(number), factory.canonical_of(number), Effort.CAREFUL)

    def _doubts(self, requests: Mapping[str, Request]) -> dict[str, Request]:
        if self._checks >= MOST_CHECKS:
            return {}
        self._checks += bool(requests)
        return dict(requests)

    def _refine(self, most: int) -> dict[str, Request]:
        """Stages that the refinement needs; once it is done, those of its schedule that rest on few samples."""
        if not self.job.settings.refine or not self.search.bound().upper < math.inf:
            return {}
        if self._refining is None:
            optimised = self.schedules()["optimised"]
            earlier = self._memory.refined(optimised) if self._memory is not None else None
            self._take_up(optimised, earlier)
        assert self._refining is not None
        while wanted := self._refining.next(most) if most else {}:
            self._refinements.update(wanted)
            self._recall(wanted)
            requests = {
                k: Request.of(stage, Effort.NORMAL) for k, stage in wanted.items() if k not in self.ledger.known
            }
            if requests:
                return requests
        made = {stage.key for stage in self._refining.schedule.stages} & self._refinements.keys() - self.ledger.sure
        return self._doubts({key: Request.of(self._refinements[key], Effort.CAREFUL) for key in sorted(made)})

    def recollect(self) -> None:
        """Where nothing may be measured any more: take what refining the same schedule has won before."""
        if self.job.settings.refine and self._refining is None and self._memory is not None:
            optimised = self.schedules()["optimised"]
            earlier = self._memory.refined(optimised)
            if earlier is not None and earlier.schedule is not None:
                self._take_up(optimised, earlier)

    def _take_up(self, optimised: Schedule, earlier: Refined | None) -> Refining:
        self._refining = refining = Refining(
            self.job, self.device.layout, optimised, len(self.ledger.known), self.ledger.seconds, earlier
        )
        placed = refining.schedule.place(self.job.graph, self.device.layout)
        self._refinements.update((item.key, item.stage) for item in placed if item.key not in self._class)
        self._recall(self._refinements)
        return refining

    def _recall(self, keys: Iterable[str]) -> None:
        """Take what the database holds of stages outside of the search space."""
        unknown = [key for key in keys if key not in self.ledger.known]
        for key, measurement, number in self._memory.recall(unknown) if self._memory is not None and unknown else ():
            self.tell(key, measurement, number, found=True)

    @property
    def done(self) -> bool:
        """Nothing is under way; after an empty `next` nothing more will be asked for."""
        return self.expired or not self._waiting

    def wants(self, key: str) -> bool:
        """Whether an answer to a stage is awaited."""
        return not self.expired and key in self._waiting

    def expire(self) -> None:
        """Want no more: the budget is over. What still comes in counts."""
        self.expired = True
        self._waiting.clear()

    def take_over(self, earlier: JobSearch) -> None:
        """Go on in the place of a search of the same job: its budget, and what it has to say."""
        self._spent, self.expired = earlier._spent, earlier.expired
        self.notes = list(dict.fromkeys([*earlier.notes, *self.notes]))

    @property
    def out_of_stages(self) -> bool:
        """Whether the budget's stages are spent."""
        return self._stages_left() == 0

    @property
    def complete(self) -> bool:
        """Whether the search came to its end: the gap was reached, or all that can be known is."""
        return self.search.reached or not (self.expired or self.out_of_stages or self._waiting)

    # -- being told ----------------------------------------------------------------------------------------------

    def tell(self, key: str, measurement: Measurement, number: int, *, found: bool) -> None:
        """A usable measurement (`ok` or `infeasible`) of a stage; others' stages are ignored, and so is one that is
        known better. found: it was in the database before.
        """
        if key not in self._class and key not in self._extra():
            return
        known = self.ledger.enter(key, measurement, number, self._waiting.pop(key, None), found=found)
        if known is None:
            return
        if key in self._class:
            self.search.tell(self._class[key], known.seconds, known.error)
        if key in self._copies and math.isfinite(known.seconds):
            unit, stage = self._copies[key]
            self.search.tell_share(unit, known.seconds / len(stage.groups))

    def give_up(self, key: str) -> bool:
        """A stage that cannot be measured though it may be feasible: it is not used, and stays bounded from below; one
        that is known already keeps its latency. False where the job does not wait for it.
        """
        if key not in self._waiting:
            return False
        del self._waiting[key]
        if not self.ledger.give_up(key):
            return False
        if key in self._class:
            self.search.block(self._class[key])
        return True
