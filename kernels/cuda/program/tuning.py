"""Launch orders tried on the device: the best known one, changed a little again and again (local search).

Without barriers, which of two kernels that could both run gets the device first depends on the order of launching, and
no rule is best everywhere; what an order takes is measured.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from iosfarm.kernels.cuda.program.dependencies import Dependencies
from iosfarm.kernels.cuda.program.steps import Step

Order = tuple[int, ...]
"""Numbers of a program's steps in the order in which they are launched."""

TUNING = 2.0
"""Seconds that the search for one schedule's order takes."""

GAIN = 0.002
"""Share by which an order has to be faster to be taken: less is noise."""

STEPS_MOVED = 3
"""At most so many at a time."""


def tuned(
    starts: Sequence[Order],
    needed: Dependencies,
    seconds_of: Callable[[Order], float],
    *,
    budget: float = TUNING,
    clock: Callable[[], float] = time.monotonic,
    seed: int = 0,
) -> tuple[Order, float]:
    """The fastest order that was found within `budget` seconds, and its time; all of `starts` are tried.

    needed: for each step those that have to be launched before it.
    """
    deadline = clock() + budget
    rng = random.Random(seed)
    best, least = min(((order, seconds_of(order)) for order in dict.fromkeys(starts)), key=lambda found: found[1])
    tried = {*starts}
    misses = 0
    while clock() < deadline and misses < 4 * len(best) + 100:
        order = best
        for _ in range(rng.randint(1, STEPS_MOVED)):
            order = _moved(order, needed, rng)
        if order in tried:
            misses += 1  # of a small program there may be no more orders
            continue
        tried.add(order)
        misses = 0
        seconds = seconds_of(order)
        if seconds < least * (1 - GAIN):
            best, least = order, seconds
    return best, least


def order_of(steps: Sequence[Step], arranged: Sequence[Step]) -> Order:
    """Where the steps of an arrangement stand among a program's."""
    places = {id(step): number for number, step in enumerate(steps)}
    return tuple(places[id(step)] for step in arranged)


def written(order: Order) -> str:
    """As text, for a plan's name."""
    return " ".join(map(str, order))


def parsed(text: str, needed: Dependencies) -> Order | None:
    """The order that a text says; None where it is none of these steps, or not a legal one."""
    try:
        order = tuple(map(int, text.split()))
    except ValueError:
        return None
    if sorted(order) != list(range(len(needed))):
        return None
    places = {step: place for place, step in enumerate(order)}
    legal = all(places[before] < places[step] for step, each in enumerate(needed) for before in each)
    return order if legal else None


def _moved(order: Order, needed: Dependencies, rng: random.Random) -> Order:
    """One step at another place, between the last step that it waits for and the first that waits for it."""
    place = rng.randrange(len(order))
    step = order[place]
    first = max((i + 1 for i, other in enumerate(order) if other in needed[step]), default=0)
    last = min((i - 1 for i, other in enumerate(order) if step in needed[other]), default=len(order) - 1)
    rest = [*order[:place], *order[place + 1 :]]
    rest.insert(rng.randint(first, last), step)
    return tuple(rest)
