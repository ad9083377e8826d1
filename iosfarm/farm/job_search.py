"""One job under search: which stages it still needs, and its schedules once it has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from iosfarm.farm.executor import DeviceInfo
from iosfarm.farm.jobs import Job, JobResult, StageCounts
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.schedule import Certificate, Schedule, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.parts import cut
from iosfarm.search.problem import problems
from iosfarm.search.solver import PartSearch, check_method
from iosfarm.workers.evaluating import TOLERANCES, Evaluation
from iosfarm.workers.settings import CAREFULLY

MOST_ROUNDS = 100
"""How often the best schedule's stages are measured again: each time another one may turn out the best. It ends by
itself long before, when the best schedule holds no stage in doubt."""

DISTURBED = 0.1
"""A network that takes this much longer than its stages was measured while something else kept the device busy."""

NOISE = 0.01
"""A schedule that is less than this much faster than another, end to end, is not counted as faster."""


@dataclass(frozen=True)
class Known:
    """A latency that may be used: seconds (infinite: infeasible) and the measurement's id in the database."""

    seconds: float
    measurement: int


class JobSearch:
    """A job's parts being solved, all stages of the baselines included."""

    def __init__(self, job: Job, device: DeviceInfo) -> None:
        check_method(job.settings.method)
        self.job = job
        self.device = device
        self.parts = cut(job.graph, max_part_size=job.settings.max_part_size)
        self._problems = problems(self.parts, job.settings.space, device.layout)
        self._searches: dict[int, PartSearch] = {id(p): PartSearch(p) for p in self._problems}
        self.baselines = {
            "sequential": sequential(job.graph, self.parts, device.layout),
            "greedy": greedy(job.graph, self.parts, device.layout),
        }
        # In the order in which they are worth knowing: the baselines first, so that there is a schedule early.
        self._wanted: dict[str, Stage] = {}
        for schedule in self.baselines.values():
            self._wanted.update((item.key, item.stage) for item in schedule.place(job.graph, device.layout))
        self._interested: dict[str, list[PartSearch]] = {}
        for search in self._searches.values():
            for key in search.wanted():
                self._wanted.setdefault(key, search.stage(key))
                self._interested.setdefault(key, []).append(search)
        self._total = len(self._wanted)
        self._known: dict[str, Known] = {}
        self._found = 0
        self._given_up: set[str] = set()
        self._infeasible = 0
        self._sure: set[str] = set()
        self._rounds = 0
        self._checked = 0
        self.expired = False

    @property
    def wanted(self) -> Mapping[str, Stage]:
        """Stages that are neither known nor given up, by key, in the order in which they are worth knowing."""
        return {} if self.expired else self._wanted

    @property
    def done(self) -> bool:
        """Nothing more is wanted."""
        return self.expired or not self._wanted

    def expire(self) -> None:
        """Want no more: the budget is over. What still comes in counts."""
        self.expired = True

    def tell(self, key: str, measurement: Measurement, number: int, *, found: bool) -> None:
        """A usable measurement (`ok` or `infeasible`) of a stage; others' stages and known ones are ignored.

        found: it was in the database before.
        """
        if key not in self._wanted:
            return
        del self._wanted[key]
        infeasible = measurement.status is Status.INFEASIBLE
        seconds = math.inf if infeasible else measurement.median
        self._known[key] = Known(seconds, number)
        self._found += found
        self._infeasible += infeasible
        if infeasible or len(measurement.samples) >= CAREFULLY.min_samples:
            self._sure.add(key)
        for search in self._interested.get(key, ()):
            search.tell(key, seconds)

    def doubts(self) -> dict[str, Stage]:
        """Stages of the best schedule that rest on few samples, by key: to be measured again before the answer.

        Empty when there are none, when the budget is over, and after `MOST_ROUNDS` calls that had an answer.

        Raises:
            NoScheduleError: see `schedules`.
        """
        if self.expired or self._rounds >= MOST_ROUNDS:
            return {}
        stages = (stage for search in self._searches.values() for stage in search.solution().stages)
        keys = {stage.key for stage in stages if stage.key not in self._sure}
        self._rounds += bool(keys)
        return {key: self._interested[key][0].stage(key) for key in sorted(keys)}

    def confirm(self, key: str, measurement: Measurement, number: int) -> None:
        """What came of measuring a doubtful stage again: its new latency counts; a failure leaves the old one."""
        if key not in self._known or key in self._sure:
            return
        self._sure.add(key)
        if measurement.ok:
            self._checked += 1
            self._known[key] = Known(measurement.median, number)
            for search in self._interested.get(key, ()):
                search.tell(key, measurement.median)

    def give_up(self, key: str) -> bool:
        """A stage that cannot be measured though it may be feasible: it is not used, and stays bounded from below.

        False where the job does not want it.
        """
        if key not in self._wanted:
            return False
        del self._wanted[key]
        self._given_up.add(key)
        return True

    def counts(self) -> StageCounts:
        """How many distinct stages are known, and from where."""
        measured, failed = len(self._known) - self._found, len(self._given_up)
        return StageCounts(self._total, self._found, measured, failed, self._infeasible, self._checked)

    def schedules(self) -> dict[str, Schedule]:
        """`sequential`, `greedy` and `optimised` with what is known of their latencies.

        Raises:
            NoScheduleError: a unit cannot run on the device, or single units were not measured yet.
        """
        stages: list[ScheduledStage] = []
        certificates = []
        solutions = {key: search.solution() for key, search in self._searches.items()}
        for part, problem in zip(self.parts, self._problems, strict=True):
            solution = solutions[id(problem)]
            certificates.append(solution.certificate)
            for stage, number in zip(solution.stages, solution.stage_numbers, strict=True):
                local = problem.groups[number]
                groups = tuple(tuple(self.job.graph.units[part.units[i]].name for i in group) for group in local)
                stages.append(replace(stage, part=part.index, groups=groups))
        optimised = Schedule(tuple(stages), self.job.settings.method, _total(certificates))
        result = {**self.baselines, "optimised": optimised}
        return {name: self._predicted(schedule) for name, schedule in result.items()}

    def _predicted(self, schedule: Schedule) -> Schedule:
        stages = []
        for stage in schedule.stages:
            known = self._known.get(stage.key)
            if known is not None and math.isfinite(known.seconds):
                stage = replace(stage, predicted=known.seconds, measurement=known.measurement)
            stages.append(stage)
        return replace(schedule, stages=tuple(stages))

    def runnable(self) -> dict[str, Schedule]:
        """Those schedules that the device can run: a baseline may hold a stage that is infeasible, or was given up."""
        unusable = self._given_up | {key for key, known in self._known.items() if math.isinf(known.seconds)}
        return {
            name: schedule
            for name, schedule in self.schedules().items()
            if not any(stage.key in unusable for stage in schedule.stages)
        }

    def result(
        self,
        schedules: Mapping[str, Schedule],
        evaluation: Evaluation | None,
        seconds: float,
        interrupted: bool,
        notes: list[str],
    ) -> JobResult:
        """The job's result; the fastest schedule end to end is chosen, the simpler one where noise decides, and none
        that computes wrong numbers while another one does not.
        """
        chosen = "optimised"
        wrong: dict[str, float] = {}
        if evaluation is not None:
            over = overrun(schedules, evaluation)
            if over is not None and over > DISTURBED:
                notes = [*notes, f"end to end, the sequential schedule took {over:.0%} longer than its stages alone: "
                         "was the machine busy? search or run again when it is idle"]  # fmt: skip
            tolerance = TOLERANCES[self.job.graph.dtype]
            wrong = {name: e for name, e in evaluation.errors.items() if e is not None and e > tolerance}
            right = {name: m.median for name, m in evaluation.latencies.items() if name not in wrong}
            chosen = fastest(right) if right else "sequential"
            if wrong:
                worst = max(wrong.values())
                notes = [
                    *notes,
                    f"wrong numbers from {', '.join(wrong)}: off by {worst:.1e}, more than {tolerance:.0e}",
                ]
            keys = {name: [stage.key for stage in schedule.stages] for name, schedule in schedules.items()}
            if keys["optimised"] == keys["greedy"]:
                notes = [*notes, "the optimised schedule is the greedy one"]
            elif chosen != "optimised" and "optimised" not in wrong:
                notes = [*notes, f"the optimised schedule did not win end to end: {chosen} was chosen"]
        return JobResult(
            self.job,
            self.device,
            schedules,
            chosen,
            self.counts(),
            seconds,
            interrupted,
            evaluation.latencies if evaluation else {},
            evaluation.errors if evaluation else {},
            tuple(notes),
            bool(wrong),
        )


def overrun(schedules: Mapping[str, Schedule], evaluation: Evaluation) -> float | None:
    """How much longer the sequential schedule took than its stages alone, relative to them; None: not known."""
    measured = evaluation.latencies.get("sequential")
    predicted = schedules["sequential"].predicted
    return measured.median / predicted - 1 if measured is not None and predicted else None


def fastest(latencies: Mapping[str, float]) -> str:
    """The schedule to use, of one or more. One that is not faster than the sequential one beyond noise is not worth
    its streams; between the optimised and the greedy one, noise does not speak against the search.
    """
    simplest, *others = [name for name in ("sequential", "greedy", "optimised") if name in latencies]
    chosen = simplest
    for name in others:
        if latencies[name] < (1 - NOISE) * latencies[chosen]:
            chosen = name
    if "optimised" in latencies and chosen == "greedy" and latencies["optimised"] * (1 - NOISE) <= latencies["greedy"]:
        chosen = "optimised"
    return chosen


def _total(certificates: list[Certificate]) -> Certificate:
    """Parts run after each other: bounds add up; one part that is not exhaustive makes the whole not exhaustive."""
    exhaustive = all(c.kind == "exhaustive" for c in certificates)
    return Certificate(
        "exhaustive" if exhaustive else "structural",
        sum(c.lower for c in certificates),
        sum(c.upper for c in certificates),
        tuple(dict.fromkeys(text for c in certificates for text in c.assumptions)),
        sum(c.audited for c in certificates),
        sum(c.broken for c in certificates),
    )
