"""Why a schedule has the stage that it has: what the others that could run there cost, measured or at least.

The search's problem is made again from the schedule file, and told what the database holds for the file's device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from iosfarm.db import LatencyDatabase, Recorded
from iosfarm.farm.executors.executor import DeviceInfo
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.farm.jobs.job_search import MOST_COPIES, JobSearch
from iosfarm.farm.schedules.explanation import Explanation, NamedStage, Row, reason
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Status
from iosfarm.ir.schedule import mergeable
from iosfarm.ir.stage import Stage
from iosfarm.search.alternatives import Cost, PartCosts
from iosfarm.search.copies import copies
from iosfarm.search.method import Method
from iosfarm.search.problem import PartProblem
from iosfarm.search.space import SpaceSettings
from iosfarm.workers.measuring import relative_median_error

DRIFT = 0.005
"""Relative difference of a part's latency, by the file and by the database, that is worth a word."""


def explain(
    content: ScheduleFile, graph: Graph, stage: int, database: LatencyDatabase, *, most: int = 10, where: str = ""
) -> Explanation:
    """The alternatives to a stage of a schedule, by its number. most: how many of the best are told.

    Raises:
        UsageError: there is no such stage. SpaceTooLargeError. DatabaseError.
    """
    if not 0 <= stage < len(content.stages):
        what = f"there is no stage {stage}"
        raise UsageError(what, where=where, hint=f"stages are 0 to {len(content.stages) - 1}")
    return _Explaining(content, graph, database, [stage]).explain(stage, most)


def explain_all(
    content: ScheduleFile, graph: Graph, database: LatencyDatabase, *, most: int = 10
) -> Iterator[Explanation]:
    """As `explain`, of every stage in order; the search's problem is made once.

    Raises:
        SpaceTooLargeError. DatabaseError.
    """
    explaining = _Explaining(content, graph, database, range(len(content.stages)))
    for stage in range(len(content.stages)):
        yield explaining.explain(stage, most)


_Form = tuple[str, tuple[tuple[int, ...], ...]]
"""Strategy and groups, by indices of units."""


class _Explaining:
    """stages: those that will be explained."""

    def __init__(self, content: ScheduleFile, graph: Graph, database: LatencyDatabase, stages: Sequence[int]) -> None:
        self._content = content
        self._graph = graph
        self._database = database
        d, s = content.device, content.settings
        device = Device(d.kind, d.model, d.properties)
        self._device = DeviceInfo(d.spec, device, Environment(d.environment, d.environment_soft), content.layout)
        space = SpaceSettings(s.max_group_size, s.max_groups, tuple(s.strategies), s.endings)
        plain = Method()
        self._method = Method(
            s.method,
            plain.gap if s.gap is None else s.gap,
            s.certificate or plain.certificate,
            s.confidence or plain.confidence,
        )
        settings = SearchSettings(space, self._method, s.max_part_size)
        self._job = JobSearch(Job(content.model, graph, d.spec, settings, seed=s.seed), self._device)
        self._search = self._job.search
        factory = self._search.factory
        self._classes = {factory.key_of(number): number for number in range(self._search.class_count)}
        index = {unit.name: i for i, unit in enumerate(graph.units)}
        self._forms: list[_Form] = [
            (entry.strategy, tuple(tuple(index[name] for name in group) for group in entry.groups))
            for entry in content.stages
        ]
        self._part_of = {unit: number for number, part in enumerate(self._job.parts) for unit in part.units}
        self._costs: dict[int, PartCosts] = {}
        self._notes: list[str] = []
        split = [forms for stage in stages for forms in self._simpler(self._forms[stage])]
        keys = [self._key(form) for forms in (self._forms, *split) for form in forms]
        self._recorded = database.lookup([*self._classes, *keys], self._device.device, self._device.environment)
        self._tell()
        self._general = tuple(self._notes)

    def explain(self, stage: int, most: int) -> Explanation:
        self._notes = [*self._general]
        split = self._simpler(self._forms[stage])
        parts = self._parts(stage)
        involved = [n for n in range(len(self._forms)) if parts & self._parts(n)]
        own = self._sum([stage])
        whole = self._sum(involved)
        self._compare_with_file(involved, whole)
        row = Row((self._named(self._forms[stage]),), own, self._samples(self._forms[stage]), None, whole)
        rest = self._sum([n for n in involved if n != stage])
        simpler = []
        for forms in split:
            cost = self._add([self._cost(form) for form in forms])
            expected = self._expected(forms) if cost.known is None else None
            simpler.append(Row(tuple(map(self._named, forms)), cost, None, expected, self._add([rest, cost])))
        found = self._alternatives(stage, involved) if len(parts) == 1 else None
        refined = " (it was refined)" if self._content.chosen == "refined" else ""
        if found is None:
            self._notes.append(
                f"the search space does not hold what the schedule does here{refined}: the stage is compared with "
                "simpler ones only"
            )
        elif all(other.stages != row.stages for other in found):
            self._notes.append(f"the stage itself is outside of the search space{refined}; the others are in it")
        if found is not None and any(len(self._parts(n)) > 1 for n in involved):
            self._notes.append("the part shares a stage with the next one, which counts whole")
        rows = [other for other in found or [] if other.stages != row.stages]
        known = [other.own.known for other in rows if other.own.known is not None]
        infeasible = sum(1 for seconds in known if math.isinf(seconds))
        return Explanation(
            stage,
            self._content.stages[stage].part,
            row,
            None if found is None else len(rows),
            len(known) - infeasible,
            infeasible,
            tuple(replace(other, why=self._why(other, whole)) for other in rows[:most]),
            tuple(replace(other, why=self._why(other, whole)) for other in simpler),
            (*self._job.notes, *self._notes),
        )

    # -- what is known -------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Tell the search what the database holds, and the file where that holds nothing."""
        device = f"{self._content.device.model}, {self._content.dtype}"
        if not self._recorded.keys() & self._classes.keys():
            self._notes.append(
                f"{self._database.name} holds no latencies of this network's stages on {device}: what others cost is "
                "not known; `iosfarm search` with this --db measures them"
            )
        for entry, form in zip(self._content.stages, self._forms, strict=True):
            number = self._classes.get(self._key(form))
            if number is not None and entry.predicted is not None:
                self._search.tell(number, entry.predicted)
        soft: set[str] = set()
        for key in self._recorded.keys() & self._classes.keys():
            seconds, error = _latency(self._recorded[key])
            self._search.tell(self._classes[key], seconds, error)
            soft.update(self._recorded[key].soft_differences)
        if soft:
            self._notes.append(f"some latencies were measured with another {', '.join(sorted(soft))}")
        if self._method.name == "certified":
            self._saturate()
            # Draws the random sample that calibrates the bounds; nothing is measured.
            self._search.ask(1)
            self._search.forget_asked()

    def _saturate(self) -> None:
        """Tell what the device can do of many copies of a unit, where that was measured."""
        count = self._content.settings.max_groups or MOST_COPIES
        factory = self._search.factory
        units = {Stage.from_json(copies(factory.canonical_of(n), count)).key: n for n in self._search.units}
        for key, found in self._database.lookup(units, self._device.device, self._device.environment).items():
            if found.measurement.ok:
                self._search.tell_share(units[key], found.measurement.median / count)

    def _compare_with_file(self, involved: Sequence[int], whole: Cost) -> None:
        predicted = [self._content.stages[n].predicted for n in involved]
        before = sum(s for s in predicted if s is not None)
        if whole.known is not None and None not in predicted and abs(whole.known / before - 1) > DRIFT:
            self._notes.append(
                f"measured anew since the file was written: these stages took {before * 1e3:.3f} ms then and take "
                f"{whole.known * 1e3:.3f} ms now"
            )

    # -- stages --------------------------------------------------------------------------------------------------

    def _alternatives(self, stage: int, involved: Sequence[int]) -> list[Row] | None:
        """All of the space that could run in its place; None where it does not hold what is left before the stage."""
        earlier, later = ([n for n in involved if n < stage], [n for n in involved if n > stage])
        if any(len(self._parts(n)) > 1 for n in earlier):
            return None
        (number,) = self._parts(stage)
        problem, part = self._search.problems[number], self._job.parts[number]
        place = {unit: i for i, unit in enumerate(part.units)}
        gone = sum(1 << place[unit] for n in later for unit in self._units(n) if unit in place)
        costs = self._costs_of(problem)
        state = costs.state((1 << len(part.units)) - 1 & ~gone)
        if state is None:
            return None
        after = self._sum(later)
        rows = []
        for found in costs.alternatives(state, after.at_least):
            groups = problem.space.groups(found.number)
            form = (problem.space.strategy(found.number), tuple(tuple(part.units[i] for i in g) for g in groups))
            whole = found.whole if after.known is not None else replace(found.whole, known=None)
            rows.append(Row((self._named(form),), found.own, self._samples(form), found.expected, whole))
        return rows

    def _simpler(self, form: _Form) -> list[list[_Form]]:
        """A stage's groups one after the other, and every unit alone, as far as that is something else."""
        strategy, groups = form
        one_by_one: list[_Form] = []
        for group in groups:
            merged = strategy == "mixed" and mergeable(self._graph, group)
            one_by_one.append(("merge", tuple((unit,) for unit in group)) if merged else ("concurrent", (group,)))
        units = [_alone(unit) for unit in sorted(unit for group in groups for unit in group)]
        found = [one_by_one] if len(groups) > 1 and any(len(group) > 1 for group in groups) else []
        return [*found, units] if len(units) > 1 else found

    def _cost(self, form: _Form) -> Cost:
        """As measured; else by the file; else by the bounds of the search, for what its space holds."""
        key = self._key(form)
        if key in self._recorded:
            seconds, _ = _latency(self._recorded[key])
            return Cost(seconds, seconds, False)
        if key in self._classes:
            problem, number = self._search.where(self._classes[key])
            return self._costs_of(problem).of(number)
        found = [e.predicted for e, f in zip(self._content.stages, self._forms, strict=True) if self._key(f) == key]
        known = found[0] if found else None
        units = [self._cost(_alone(unit)).at_least for group in form[1] for unit in group if not _is_unit(form)]
        return Cost(known, known or (1 - self._search.margin) * max(units, default=0.0), False)

    def _expected(self, forms: Sequence[_Form]) -> float | None:
        """Of stages one after the other; what is outside of the search space is taken for its units' sum."""
        total = 0.0
        for form in forms:
            cost, number = self._cost(form), self._classes.get(self._key(form))
            expected = cost.known
            if expected is None and number is not None:
                problem, stage = self._search.where(number)
                expected = self._costs_of(problem).expected(stage)
            elif expected is None and not _is_unit(form):
                expected = self._expected([_alone(unit) for group in form[1] for unit in group])
            if expected is None:
                return None
            total += expected
        return total

    def _costs_of(self, problem: PartProblem) -> PartCosts:
        if id(problem) not in self._costs:
            self._costs[id(problem)] = PartCosts(self._search, problem)
        return self._costs[id(problem)]

    def _sum(self, stages: Sequence[int]) -> Cost:
        return self._add([self._cost(self._forms[n]) for n in stages])

    def _add(self, costs: Sequence[Cost]) -> Cost:
        known = [cost.known for cost in costs if cost.known is not None]
        total = math.fsum(known) if len(known) == len(costs) else None
        return Cost(total, math.fsum(cost.at_least for cost in costs), any(cost.statistical for cost in costs))

    def _why(self, row: Row, chosen: Cost) -> str:
        return reason(row.own, row.whole, chosen, self._method.confidence)

    def _key(self, form: _Form) -> str:
        return self._search.factory.make(form[1], form[0]).key

    def _samples(self, form: _Form) -> int | None:
        found = self._recorded.get(self._key(form))
        return len(found.measurement.samples) or None if found is not None else None

    def _units(self, stage: int) -> list[int]:
        return [unit for group in self._forms[stage][1] for unit in group]

    def _parts(self, stage: int) -> set[int]:
        return {self._part_of[unit] for unit in self._units(stage)}

    def _named(self, form: _Form) -> NamedStage:
        """Groups by their first unit, units in the order in which they run."""
        groups = sorted(tuple(sorted(group)) for group in form[1])
        return NamedStage(form[0], tuple(tuple(self._graph.units[unit].name for unit in group) for group in groups))


def _alone(unit: int) -> _Form:
    return "concurrent", ((unit,),)


def _is_unit(form: _Form) -> bool:
    return sum(map(len, form[1])) == 1


def _latency(found: Recorded) -> tuple[float, float]:
    """Seconds and their relative standard error; infinite for what cannot run."""
    if found.measurement.status is Status.INFEASIBLE:
        return math.inf, 0.0
    return found.measurement.median, relative_median_error(found.measurement.samples)
