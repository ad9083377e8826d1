"""Refinement: what can still be won of a schedule by moves that the dynamic program of a part cannot express.

`Refinement` proposes moves (see `iosfarm.search.moves`), says which stages to measure for them, and keeps those that
measure better. It knows no device. What comes out is outside of the search space, so no certificate holds for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.search.forms import Form, Move, form_of
from iosfarm.search.moves import Neighbourhood
from iosfarm.search.stage_estimates import StageEstimates

NOISE = 0.01
"""A gain below this share of what the replaced stages take is none."""


@dataclass(frozen=True)
class Won:
    """A move that was made. before, after: seconds of the stages replaced and of those in their place.

    Stage numbers in `description` are those before this move and what was made together with it.
    """

    description: str
    before: float
    after: float


class Refinement:
    """A schedule that gets better: ask what is `wanted`, measure it, `apply` what wins, ask again.

    max_groups: most groups of a new stage, None is no limit. max_group_size: that of the search which made the
    schedule: it has weighed no longer groups, so they are worth a look. seconds: key -> latency; None where nothing is
    known, so that it may be wanted (again), infinite where the stage cannot run. A stage's own `predicted` stands where
    `seconds` knows nothing. inside: propose also what a search of the parts has weighed, for a schedule that comes from
    no search, or from one that was cut short.

    Raises:
        UsageError: the schedule does not fit the graph.
    """

    def __init__(
        self,
        graph: Graph,
        layout: str,
        schedule: Schedule,
        *,
        max_groups: int | None = None,
        max_group_size: int | None = None,
        seconds: Callable[[str], float | None],
        inside: bool = False,
    ) -> None:
        placed = schedule.place(graph, layout)
        self._graph = graph
        self._seconds = seconds
        self._predicted = {
            item.key: stage.predicted
            for stage, item in zip(schedule.stages, placed, strict=True)
            if stage.predicted is not None
        }
        self._estimates = StageEstimates(graph, StageFactory(graph, layout), self._known)
        self._schedule = schedule
        self._forms = [
            form_of(graph, stage.part, stage.strategy, item.groups)
            for stage, item in zip(schedule.stages, placed, strict=True)
        ]
        homes = {unit: form.part for form in self._forms for unit in form.units}
        self._neighbourhood = Neighbourhood(
            graph,
            [homes[unit] for unit in range(len(graph.units))],
            max_groups=max_groups,
            max_group_size=max_group_size,
            inside=inside,
        )
        self._moves = list(self._neighbourhood.moves(self._forms))

    @property
    def schedule(self) -> Schedule:
        """The schedule as it is now."""
        return self._schedule

    def wanted(self, most: int) -> dict[str, Stage]:
        """Stages to measure, by key, at most so many: those of the schedule itself first, then of the best moves.

        Moves are ranked by the gain to expect (see `StageEstimates`). One is left out if it cannot win: its stages take
        at least, by what was measured of them, what the old ones take. Empty where nothing is left to try.
        """
        chosen: dict[str, Stage] = {}
        for form in self._forms:
            self._want(form, chosen, most)
        self._estimates.learn(self._forms)
        for move in self._ranked():
            if len(chosen) >= most:
                break
            unknown = {self._estimates.place(f).key for f in move.forms if self._estimates.known(f) is None}
            # A move of which one stage only fits in would tell nothing.
            if len(unknown - chosen.keys()) <= most - len(chosen):
                for form in move.forms:
                    self._want(form, chosen, most)
        return chosen

    def apply(self, noise: float = NOISE) -> tuple[Schedule, tuple[Won, ...]]:
        """Make those moves that win most together, and again, until none is known that wins.

        Only what was measured is made, and what wins more than `noise`, a share of what the replaced stages take.
        Returns the schedule, which is untouched, certificate included, where nothing was ever won, and what was won.
        """
        won: list[Won] = []
        while chosen := self._winning(noise):
            each = [Won(m.description, self._before(m) or 0.0, self._after(m) or 0.0) for m in chosen]
            won += sorted(each, key=lambda item: item.after - item.before)
            self._make(chosen)
        return self._schedule, tuple(won)

    def _winning(self, noise: float) -> list[Move]:
        gains: list[list[tuple[float, Move]]] = [[] for _ in self._forms]
        for move in self._moves:
            before, after = self._before(move), self._after(move)
            if before is not None and after is not None and before - after > noise * before:
                gains[move.position].append((before - after, move))
        return _best(gains)

    def _make(self, moves: Sequence[Move]) -> None:
        by_position = {move.position: move for move in moves}
        stages: list[ScheduledStage] = []
        forms: list[Form] = []
        position = 0
        while position < len(self._forms):
            made = by_position.get(position)
            if made is None:
                old, form = self._schedule.stages[position], self._forms[position]
                key = self._estimates.place(form).key
                stages.append(replace(old, key=key, predicted=self._known(key)))
                forms.append(form)
            else:
                stages += [self._scheduled(form) for form in made.forms]
                forms += made.forms
            position += made.replaced if made else 1
        self._schedule, self._forms = Schedule(tuple(stages), "refined"), forms
        self._moves = list(self._neighbourhood.moves(forms))

    def _known(self, key: str) -> float | None:
        seconds = self._seconds(key)
        return self._predicted.get(key) if seconds is None else seconds

    def _want(self, form: Form, chosen: dict[str, Stage], most: int) -> None:
        placed = self._estimates.place(form)
        if len(chosen) < most and placed.key not in chosen and self._known(placed.key) is None:
            chosen[placed.key] = placed.stage

    def _ranked(self) -> list[Move]:
        ranked = []
        for number, move in enumerate(self._moves):
            before = self._before(move)
            if before is None or not math.isfinite(before) or self._after(move) is not None:
                continue  # nothing to compare with, or nothing to measure
            old = self._replaced(move)
            if sum(self._estimates.at_least(form, old) for form in move.forms) < before:
                expected = sum(self._estimates.expected(form) for form in move.forms)
                ranked.append((expected - before, number, move))
        return [move for _, _, move in sorted(ranked, key=lambda item: item[:2])]

    def _replaced(self, move: Move) -> Sequence[Form]:
        return self._forms[move.position : move.position + move.replaced]

    def _before(self, move: Move) -> float | None:
        return self._total(self._replaced(move))

    def _after(self, move: Move) -> float | None:
        return self._total(move.forms)

    def _total(self, forms: Sequence[Form]) -> float | None:
        known = [self._estimates.known(form) for form in forms]
        return None if None in known else sum(s for s in known if s is not None)

    def _scheduled(self, form: Form) -> ScheduledStage:
        placed = self._estimates.place(form)
        names = tuple(tuple(self._graph.units[unit].name for unit in group) for group in placed.groups)
        return ScheduledStage(form.part, form.strategy, names, placed.key, self._known(placed.key))


def _best(gains: Sequence[Sequence[tuple[float, Move]]]) -> list[Move]:
    """Moves that share no stage and win most together. gains: of the moves that begin at each position."""
    best = [0.0] * (len(gains) + 2)
    choice: list[Move | None] = [None] * len(gains)
    for position in reversed(range(len(gains))):
        best[position] = best[position + 1]
        for gain, move in gains[position]:
            if gain + best[position + move.replaced] > best[position]:
                best[position], choice[position] = gain + best[position + move.replaced], move
    chosen = []
    position = 0
    while position < len(gains):
        made = choice[position]
        if made is not None:
            chosen.append(made)
        position += made.replaced if made else 1
    return chosen


def refine(
    graph: Graph,
    layout: str,
    schedule: Schedule,
    latency: Callable[[Stage], float],
    *,
    max_groups: int | None = None,
    max_group_size: int | None = None,
    most: int = 1000,
    noise: float = NOISE,
    inside: bool = False,
) -> tuple[Schedule, tuple[Won, ...]]:
    """Refine with a latency function of your own until nothing is won or `most` stages were asked for.

    latency: stage -> seconds; it may raise `Infeasible`, and is called once for each distinct key at most. The others
    are those of `Refinement`.

    Raises:
        UsageError: the schedule does not fit the graph.
    """
    known: dict[str, float] = {}
    won: tuple[Won, ...] = ()
    stages = Refinement(
        graph,
        layout,
        schedule,
        max_groups=max_groups,
        max_group_size=max_group_size,
        seconds=known.get,
        inside=inside,
    )
    # What wins is made before the next are asked for: it opens moves that may be worth more.
    while wanted := stages.wanted(min(ROUND, most - len(known))):
        for key, stage in wanted.items():
            try:
                known[key] = latency(stage)
            except Infeasible:
                known[key] = math.inf
        won += stages.apply(noise)[1]
    return stages.schedule, won


ROUND = 64
"""Stages that `refine` asks for at once."""
