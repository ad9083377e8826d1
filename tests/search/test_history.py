"""How a search remembers what it knew at which time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from iosfarm.search.history import MOST, BoundHistory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def test_only_what_changed_is_kept() -> None:
    history = BoundHistory(Clock())
    history.note(1, 0.5, math.inf)
    history.note(2, 1.0, 4.0)
    history.note(3, 1.0, 4.0)
    history.note(4, 2.0, 3.0)
    points = history.points()
    assert [(p.known, p.lower, p.upper) for p in points] == [(2, 1.0, 4.0), (4, 2.0, 3.0)]
    assert [p.seconds for p in points] == [0.5, 1.0]


@given(st.integers(1, 5 * MOST))
def test_a_long_history_keeps_its_first_and_its_newest_point_and_the_order(count: int) -> None:
    history = BoundHistory(Clock())
    for number in range(count):
        history.note(number, number, 10.0 * MOST)
    points = history.points()
    known = [point.known for point in points]
    assert (known[0], known[-1]) == (0, count - 1)
    assert known == sorted(set(known))
    assert min(count, MOST // 2) <= len(points) <= MOST + 1
