"""Refining a job's schedule: what to measure for it, within limits; or what came of it when it was tried before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iosfarm.farm.jobs.job import Job
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.search.refine import Refinement, Won

SHARE = 0.1
"""Stages to measure for it at most, relative to those that the search has used."""

LEAST, MOST = 24, 150


@dataclass(frozen=True)
class Refined:
    """What came of refining a schedule before: None where it won nothing."""

    schedule: Schedule | None
    won: tuple[Won, ...]


class Refining:
    """A schedule being refined. known: how many stages the search has used. seconds: see `Refinement`. earlier: what
    came of it before, which is taken as it is.
    """

    def __init__(
        self,
        job: Job,
        layout: str,
        schedule: Schedule,
        known: int,
        seconds: Callable[[str], float | None],
        earlier: Refined | None = None,
    ) -> None:
        self.won: tuple[Won, ...] = ()
        self._earlier = schedule
        self._refinement: Refinement | None = None
        if earlier is not None:
            self._earlier, self.won = earlier.schedule or schedule, earlier.won
            return
        space = job.settings.space
        self._refinement = Refinement(
            job.graph,
            layout,
            schedule,
            max_groups=space.max_groups,
            max_group_size=space.max_group_size,
            seconds=seconds,
        )
        self._left = min(MOST, max(LEAST, round(SHARE * known)))

    def next(self, most: int) -> dict[str, Stage]:
        """Stages to measure, by key, with what is known by now; empty when there is nothing left to try."""
        if self._refinement is None:
            return {}
        self.won += self._refinement.apply()[1]
        wanted = self._refinement.wanted(min(most, self._left))
        self._left -= len(wanted)
        return wanted

    @property
    def schedule(self) -> Schedule:
        """As it is now."""
        return self._refinement.schedule if self._refinement is not None else self._earlier
