"""What is known of one job: its parts, the latencies of its stages, and the schedules that follow from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from iosfarm.farm.executors.executor import DeviceInfo
from iosfarm.farm.jobs.job import Job, StageCounts
from iosfarm.farm.jobs.ledger import Ledger
from iosfarm.farm.jobs.refining import Refining
from iosfarm.ir.schedule import Certificate, Schedule, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.latency_model import LatencyModel
from iosfarm.search.parts import Part, cut
from iosfarm.search.problem import PartProblem, problems
from iosfarm.search.racing import regret
from iosfarm.search.refine import Won
from iosfarm.search.solver import certificate_of, solution
from iosfarm.search.space import SpaceTooLargeError
from iosfarm.search.stage_search import StageSearch

WORTHWHILE = 0.002
"""A refined schedule that is less than this much faster than the one it came from, relative, is not kept."""

SMALLEST_PART = 8
"""Units: parts whose space is too large are cut in half until they have so many."""


class JobKnowledge:
    """A job's parts, stages and schedules, those of the baselines included. model: what is learned on the device.
    stop: asked while stages are enumerated; EnumerationStoppedError where it says so.
    """

    def __init__(
        self,
        job: Job,
        device: DeviceInfo,
        model: LatencyModel | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.job = job
        self.device = device
        self.notes: list[str] = []
        self.parts, self._problems = self._divide(stop)
        self.search = StageSearch(self._problems, job.settings.method, model, seed=job.seed)
        self.ledger = Ledger()
        factory = self.search.factory
        self._class = {factory.key_of(number): number for number in range(self.search.class_count)}
        self.baselines = {
            "sequential": sequential(job.graph, self.parts, device.layout),
            "greedy": greedy(job.graph, self.parts, device.layout),
        }
        # Greedy stages may lie outside of the space.
        self._baseline = {
            item.key: item.stage for s in self.baselines.values() for item in s.place(job.graph, device.layout)
        }
        self._earlier: Certificate | None = None  # of this same search, done before
        self._refining: Refining | None = None
        self._refinements: dict[str, Stage] = {}
        self._copies: dict[str, tuple[int, Stage]] = {}

    def _divide(self, stop: Callable[[], bool]) -> tuple[list[Part], list[PartProblem]]:
        """The parts, smaller than asked for where their spaces could not be held otherwise."""
        settings, graph = self.job.settings, self.job.graph
        size = settings.max_part_size
        while True:
            parts = cut(graph, max_part_size=size)
            try:
                found = problems(parts, settings.space, self.device.layout, stop)
            except SpaceTooLargeError:
                largest = max(len(part.units) for part in parts)
                if largest // 2 < SMALLEST_PART:
                    raise
                size = largest // 2
                continue
            if size < settings.max_part_size:
                self.notes.append(f"parts have at most {size} units: larger ones have too many states to hold")
            return parts, found

    def keys(self) -> Iterable[str]:
        """Of all stages that the search and the baselines can use."""
        return self._class.keys() | self._baseline.keys()

    def _extra(self) -> Iterable[str]:
        """Stages that may lie outside of the search space."""
        return self._baseline.keys() | self._refinements.keys() | self._copies.keys()

    @property
    def missing_units(self) -> int:
        """Single units that nothing is known of; 0 where no schedule can be, whatever they take."""
        if math.isinf(self.search.bound().lower):
            return 0
        keys = {stage.key for stage in self.baselines["sequential"].stages}
        return sum(1 for key in keys if not self.ledger.settled(key))

    def counts(self) -> StageCounts:
        """How many distinct stages are known, and from where."""
        return StageCounts(
            self.search.class_count + sum(1 for key in self._extra() if key not in self._class),
            len(self.ledger.found),
            len(self.ledger.known) - len(self.ledger.found),
            len(self.ledger.given_up),
            self.ledger.infeasible,
            len(self.ledger.checked),
            self.search.rounds,
        )

    @property
    def gap(self) -> float | None:
        """Between the best schedule and its lower bound, relative, as of the last round; None: nothing is known. Where
        every stage is known it is zero, as in the certificate.
        """
        bound = self.search.last
        if bound is not None and bound.upper < math.inf and not np.isnan(self.search.seconds).any():
            return 0.0
        if bound is None or bound.lower <= 0 or bound.upper == math.inf:
            return None
        return max(0.0, bound.upper / bound.lower - 1)

    @property
    def noisy(self) -> bool:
        """Whether noise alone keeps a search that is complete from reaching its gap."""
        certified = self.job.settings.method.name == "certified"
        return certified and self.search.rounds > 0 and not self.search.reached

    def regret(self) -> float | None:
        """See `racing.regret`; None where there is no schedule."""
        if not self.search.bound().upper < math.inf:
            return None
        return max(0.0, regret(self.search))  # a sum in another order may be below by its rounding

    def schedules(self) -> dict[str, Schedule]:
        """`sequential`, `greedy` and `optimised` with what is known of their latencies; the best of them in the other
        forms that the device has, by the form's name.

        Raises:
            NoScheduleError: a unit cannot run on the device, or single units were not measured yet.
        """
        for problem in self._problems:
            if math.isinf(self.search.part_bound(problem).lower):
                solution(self.search, problem)  # raises: what cannot be goes before what is not known
        stages: list[ScheduledStage] = []
        for part, problem in zip(self.parts, self._problems, strict=True):
            stages += solution(self.search, problem, part).stages
        optimised = Schedule(tuple(stages), self.job.settings.method.name, self._certificate())
        found = {**self.baselines, "optimised": optimised}
        if self._refining is not None and self._refining.won:
            found["refined"] = self._refining.schedule
        result = {name: self.ledger.predicted(schedule) for name, schedule in found.items()}
        before, after = (result[name].predicted if name in result else None for name in ("optimised", "refined"))
        if "refined" in result and (before is None or after is None or after >= (1 - WORTHWHILE) * before):
            del result["refined"]  # what looked better was noise
        best = result.get("refined", result["optimised"])
        others = self.device.forms[1:]
        return result | {form: replace(best, method=form, form=form, certificate=None) for form in others}

    @property
    def won(self) -> tuple[Won, ...]:
        """By refining the optimised schedule."""
        return self._refining.won if self._refining is not None else ()

    def _certificate(self) -> Certificate:
        bound, earlier = self.search.bound(), self._earlier
        if earlier is not None and math.isclose(earlier.upper, bound.upper, rel_tol=1e-9) and not self.search.rounds:
            return earlier  # of this schedule, found with all that is known now, and with what came and went on the way
        found = certificate_of(self.search, bound, exhaustive=not np.isnan(self.search.seconds).any())
        return replace(found, history=self.search.history.points())

    def runnable(self) -> Mapping[str, Schedule]:
        """Those schedules that the device can run: a baseline may hold a stage that is infeasible, or was given up."""
        return {name: schedule for name, schedule in self.schedules().items() if self.ledger.usable(schedule)}
