"""What a pool of devices still has to measure, and what each failed stage has been through."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from iosfarm.farm.jobs.request import Request
from iosfarm.workers.settings import Effort

RANK = {effort: rank for rank, effort in enumerate(Effort)}
"""Efforts, the least first."""


@dataclass
class Wanted:
    """A stage to measure. failures: how often it has failed by itself. suspect: it was part of a task that ended a
    worker, or has failed, and goes alone: should it be what fails, it takes no others with it. avoid: devices where
    that was.
    """

    request: Request
    failures: int = 0
    suspect: bool = False
    avoid: set[str] = field(default_factory=set)

    @property
    def key(self) -> str:
        """Of the stage."""
        return self.request.key

    @property
    def effort(self) -> Effort:
        """How well it is to be known."""
        return self.request.effort


class StageQueue:
    """Stages by key, each once, with the greatest effort that was asked for; the oldest first."""

    def __init__(self) -> None:
        # A plain dict is slow to find its first item when many before it are gone.
        self._fresh: dict[Effort, OrderedDict[str, Wanted]] = {effort: OrderedDict() for effort in Effort}
        self._suspects: OrderedDict[str, Wanted] = OrderedDict()
        self._flying: dict[str, Effort] = {}

    def __len__(self) -> int:
        return sum(map(len, self._fresh.values())) + len(self._suspects)

    def covers(self, key: str, effort: Effort) -> bool:
        """Whether a stage is queued or under way with as much effort. Of one that is queued with less, or waits to be
        tried again, more is asked from now on.
        """
        if key in self._flying:
            return RANK[self._flying[key]] >= RANK[effort]
        for queued in (*self._fresh.values(), self._suspects):
            if key in queued:
                wanted = queued[key]
                if RANK[wanted.effort] < RANK[effort]:
                    wanted.request = replace(wanted.request, effort=effort)
                    if queued is not self._suspects:
                        self._fresh[effort][key] = queued.pop(key)
                return True
        return False

    def is_flying(self, key: str) -> bool:
        """Whether a stage is under way."""
        return key in self._flying

    def add(self, request: Request) -> None:
        """Queue a stage that is not `covers`ed."""
        self._fresh[request.effort][request.key] = Wanted(request)

    def put_back(self, wanted: Iterable[Wanted]) -> None:
        """Stages that were taken and are still wanted: suspects behind all others, others first of all."""
        for item in reversed(list(wanted)):
            self._flying.pop(item.key, None)
            if item.suspect:
                self._suspects[item.key] = item
            else:
                self._fresh[item.effort][item.key] = item
                self._fresh[item.effort].move_to_end(item.key, last=False)

    def take(
        self,
        device: str,
        others: Collection[str],
        most: int,
        size: Callable[[Request], float],
        fit: Callable[[Effort, list[float]], int],
    ) -> list[Wanted]:
        """The stages of the next task, all of one effort; none where another device should take what there is.

        others: devices that could. most: stages of a task. fit: how many of stages with these sizes make one.
        """
        # What the answer rests on and single units go before what is only to be ruled out.
        for effort in reversed(RANK):
            able = (wanted for wanted in self._fresh[effort].values() if self._may_take(wanted, device, others))
            first = list(islice(able, most))
            if first:
                chosen = first[: fit(effort, [size(wanted.request) for wanted in first])]
                for wanted in chosen:
                    del self._fresh[effort][wanted.key]
                break
        else:
            suspect = next((w for w in self._suspects.values() if self._may_take(w, device, others)), None)
            chosen = [] if suspect is None else [self._suspects.pop(suspect.key)]
        self._flying.update((wanted.key, wanted.effort) for wanted in chosen)
        return chosen

    @staticmethod
    def _may_take(wanted: Wanted, device: str, others: Collection[str]) -> bool:
        """Elsewhere first: where it has failed only if it has failed everywhere."""
        return not wanted.avoid or device not in wanted.avoid or wanted.avoid.issuperset(others)

    def done(self, keys: Iterable[str]) -> None:
        """Stages that were taken, and are known or given up."""
        for key in keys:
            self._flying.pop(key, None)

    def drop(self, keep: Callable[[str], bool]) -> list[str]:
        """Forget the stages that nobody wants; returns them."""
        dropped: list[str] = []
        for queued in (*self._fresh.values(), self._suspects):
            unwanted = [key for key in queued if not keep(key)]
            for key in unwanted:
                del queued[key]
            dropped += unwanted
        return dropped
