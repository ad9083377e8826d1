"""`StageSearch`: which stages of a network's parts to measure next, and how good the best schedule so far is.

The dynamic program is a shortest path from the full state to the empty one. Stages that were not measured are bounded
from below, in two ways (see `Certificate` for what each assumes); the tighter one counts. Each round asks for what lies
on the shortest paths under the bounds, see `lazy`, until the best measured path is within the gap of the shortest one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.bounds import Kind
from iosfarm.search.calibration import sample_size
from iosfarm.search.latency_model import Floats, LatencyModel
from iosfarm.search.lazy import pick, prune
from iosfarm.search.method import Method
from iosfarm.search.network_bounds import EXACT, NetworkBounds
from iosfarm.search.paths import backward, forward
from iosfarm.search.problem import PartProblem
from iosfarm.search.space import StateSpace

FIRST_GROUPS = 16
"""Groups of several units that are measured first: their predictions need them, and a random sample holds few."""

RANDOM_SHARE = 0.1
"""Stages that each round adds to the random sample, relative to those that it chooses."""

POLISHES = 4
"""Rounds at most that look for a better schedule when the gap is reached already: a gap of 1% allows to miss 1%."""

WORTHWHILE = 0.001
"""A schedule that is expected to be this much faster, relative, is worth to be measured."""


class StageSearch(NetworkBounds):
    """Asks for stages, by class number; is told their latencies; knows the best schedule at any time."""

    def __init__(
        self, problems: Sequence[PartProblem], method: Method, model: LatencyModel | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(problems, method, model, seed=seed)
        self._asked = np.zeros(self.class_count, np.bool_)
        self.rounds = 0
        self._eagerness = 0.0
        self._polished = 0
        self.guided = False
        """Whether `guide` will be called when the units are known: what is not a unit waits for it."""
        self._guess: Floats | None = None

    def guide(self, seconds: Mapping[int, float]) -> None:
        """What classes probably take, as another device has shown. What is shortest by that is measured before anything
        else, so that there is a good schedule early. Nothing else rests on it, neither a bound nor a later choice: the
        regression, which has learnt from this device, orders better (`benchmarks/transfer.py`).
        """
        self.guided = False
        self._guess = np.full(self.class_count, math.inf)
        self._guess[list(seconds)] = list(seconds.values())

    def tell(self, number: int, seconds: float, error: float = 0.0) -> None:
        """See `NetworkBounds.tell`; the class may have been asked for or not."""
        super().tell(number, seconds, error)
        self._asked[number] = False

    def block(self, number: int) -> None:
        """See `NetworkBounds.block`."""
        super().block(number)
        self._asked[number] = False

    @property
    def waiting(self) -> bool:
        """Whether something was asked for and not told yet."""
        return bool(self._asked.any())

    def ask(self, most: int, *, despite_noise: bool = False) -> list[int]:
        """Classes to measure next, about `most`; those asked for before are not repeated. Empty when the gap is
        reached (noise apart, unless `despite_noise`), when nothing more can be asked, or when only answers help. Where
        the noise of the latencies is more than the gap, that is as close as the answer can be told.
        """
        chosen = self._first() if self.method.name == "certified" else self._all()
        if chosen is None:
            bound = self.bound()
            share = bound.noise / bound.upper if bound.upper < math.inf else 0.0
            gap = max(self.method.gap, share)
            noise = bound.noise if despite_noise and share <= self.method.gap / 2 else 0.0
            enough = bound.upper <= (bound.lower + bound.noise - noise) * (1 + gap) * (1 + EXACT)
            if self._units_waiting():
                chosen = []
            elif enough:
                chosen = self._polish(most)
            else:
                chosen = self._next(most, noise / max(bound.upper, 1e-300))
        self._asked[chosen] = True
        self.rounds += bool(chosen)
        return chosen

    def forget_asked(self) -> None:
        """What was asked for will not be answered: it may be asked for again."""
        self._asked[:] = False

    @property
    def reached(self) -> bool:
        """Whether the best schedule is within the gap; of an exhaustive search, whether all is known that can be."""
        if self.method.name == "exhaustive":
            return not (np.isnan(self.seconds) & ~self._blocked).any()
        bound = self.bound()
        return bound.upper <= bound.lower * (1 + self.method.gap) * (1 + EXACT)

    def _open(self) -> NDArray[np.bool_]:
        return np.isnan(self.seconds) & ~self._blocked & ~self._asked

    def _all(self) -> list[int]:
        open_ = np.flatnonzero(self._open())
        return [int(number) for number in open_[np.argsort(self.size[open_], kind="stable")]]

    def _first(self) -> list[int] | None:
        """Units, and a random sample with as many latencies as a quantile needs; None when they have been asked for."""
        open_ = self._open()
        units = np.flatnonzero(open_ & (self.kind == Kind.UNIT))
        drawn = self.predictions.drawn
        usable = int((self._asked[drawn] | np.isfinite(self.seconds[drawn])).sum())
        missing = sample_size(self.method.confidence) + 1 - usable
        if self.rounds == 0 and missing <= 0:
            self.resume()
        if self.guided:
            return [int(number) for number in units]
        if guessed := self._guessed():
            return guessed
        if not self.predictions.sampling or missing <= 0:
            return [int(number) for number in units] or None
        sample = self.predictions.sample
        groups = sample[self.kind[sample] == Kind.GROUP][:FIRST_GROUPS]
        again = drawn[open_[drawn]]  # asked for before, and forgotten
        sampled = self._draw(max(0, missing - len(again)))
        first = [*units, *(number for number in groups if open_[number]), *again, *sampled]
        return list(dict.fromkeys(map(int, first))) or None

    def _guessed(self) -> list[int]:
        """Open classes of the paths that are shortest by what `guide` was told, once."""
        if self._guess is None:
            return []
        guess, self._guess = np.where(np.isnan(self.seconds), self._guess, self.seconds), None
        open_, chosen = self._open(), list[int]()
        for part in self.parts.values():
            space, classes = part.problem.space, part.problem.classes
            _, choice = backward(space.order, space.offsets, space.stage_of, space.next_of, guess[classes])
            chosen += [int(classes[stage]) for stage in _follow(space, choice)]
        return [number for number in dict.fromkeys(chosen) if open_[number]]

    def resume(self) -> None:
        """Take up the random sample of an earlier search, as far as its latencies are known."""
        self.predictions.draw_known(~np.isnan(self.seconds))
        self._stale = True

    def _draw(self, count: int) -> list[int]:
        """The next of the random sample; those known already are in it, and need not be asked for."""
        open_ = self._open()
        return [int(number) for number in self.predictions.draw(count) if open_[number]]

    def _units_waiting(self) -> bool:
        return bool((self._asked & (self.kind == Kind.UNIT)).any())

    def _next(self, most: int, noise: float) -> list[int]:
        open_ = self._open()
        gaps = {key: self._part_gap(key) for key in self.parts}
        undecided = [key for key, gap in sorted(gaps.items(), key=lambda item: -item[1]) if gap > self.method.gap]
        undecided = undecided or [max(gaps, key=lambda key: gaps[key])]
        share = max(4, -(-most // len(undecided)))
        chosen: list[int] = []
        # A round of few stages is followed by ones that ask beyond what the predictions say is enough.
        for key in undecided:
            chosen += self._pick(key, open_, share, noise)
            if len(chosen) >= most:
                break
        self._eagerness = min(0.02, 2 * self._eagerness + 0.001) if len(chosen) < most / 8 else 0.0
        if self.predictions.sampling and chosen:
            chosen += [n for n in self._draw(max(1, round(RANDOM_SHARE * len(chosen)))) if n not in chosen]
        return chosen

    def _polish(self, most: int) -> list[int]:
        """Where the gap is reached: what is expected to make a better schedule still, at most `POLISHES` times. Not
        where all was known from the start: the same search again is to measure nothing.
        """
        chosen: list[int] = []
        if self._polished == POLISHES or self.method.gap == 0 or self.waiting or self.rounds == 0:
            return chosen
        for key, part in self.parts.items():
            space, classes = part.problem.space, part.problem.classes
            expected = np.where(np.isnan(part.known) & self._blocked[classes], math.inf, self._expected[key])
            after, choice = backward(space.order, space.offsets, space.stage_of, space.next_of, expected)
            if after[0] < (1 - WORTHWHILE) * self._upper[key]:
                path = [int(classes[stage]) for stage in _follow(space, choice)]
                chosen += [number for number in path if np.isnan(self.seconds[number])]
        self._polished += 1
        return list(dict.fromkeys(chosen))[:most]

    def _pick(self, key: int, open_: NDArray[np.bool_], most: int, noise: float) -> list[int]:
        """Open classes of one part: those on the path that is expected to be best, and on the shortest ones."""
        part = self.parts[key]
        space, classes = part.problem.space, part.problem.classes
        unknown = np.isnan(part.known)
        # What is blocked cannot be used, however little it may take: look for paths around it.
        expected = np.where(unknown & self._blocked[classes], math.inf, self._expected[key])
        bound = np.where(unknown & (self._asked | self._blocked)[classes], expected, self._lower[key])
        after, choice = backward(space.order, space.offsets, space.stage_of, space.next_of, expected)
        chosen = []
        for stage in _follow(space, choice):
            if open_[classes[stage]]:
                chosen.append(int(classes[stage]))
                open_[classes[stage]] = False
                bound[classes == classes[stage]] = expected[stage]
        upper = min(self._upper[key], float(after[0]))
        enough = upper / (1 + self.method.gap) * (1 + self._eagerness + noise - EXACT)
        after, _ = backward(space.order, space.offsets, space.stage_of, space.next_of, bound)
        before = forward(space.order, space.offsets, space.stage_of, space.next_of, bound)
        pruned = prune(space.order, space.offsets, space.stage_of, space.next_of, bound, before, after, enough)
        picked = pick(*pruned, bound, expected, classes, open_, enough, max(0, most - len(chosen)))
        return [*chosen, *map(int, picked)]


def _follow(space: StateSpace, choice: NDArray[np.int64]) -> Iterator[int]:
    """Stages on the path that the choices make, from the full state on."""
    state = 0
    while state >= 0 and choice[state] >= 0:
        yield int(space.stage_of[choice[state]])
        state = int(space.next_of[choice[state]])
