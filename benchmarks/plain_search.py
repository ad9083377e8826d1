"""The yardstick: the exhaustive search in plain Python, as one would write it down."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from iosfarm.search.parts import Part

MULTIPLIER = 0x9E3779B97F4A7C15


def seconds(ending: int) -> float:
    """A made-up latency between 1 and 2 of a bit set of units, the same in both searches."""
    return 1 + (ending * MULTIPLIER % 2**64 >> 11) / 2**53


def plain(parts: Sequence[Part], most_units: int, most_groups: int) -> tuple[float, int]:
    """Least latency of all parts, and how many transitions there are: recursion over states, bit sets in integers, a
    table of what is known.
    """
    totals = [_plain_part(part.predecessors(), most_units, most_groups) for part in parts]
    return sum(least for least, _ in totals), sum(count for _, count in totals)


def _plain_part(before: Sequence[int], most_units: int, most_groups: int) -> tuple[float, int]:
    count = len(before)
    after = [sum(1 << v for v in range(count) if before[v] >> u & 1) for u in range(count)]
    transitions = 0

    def endings(state: int, unit: int, chosen: int) -> list[int]:
        if unit < 0:
            return [chosen] if chosen and allowed(chosen) else []
        found = endings(state, unit - 1, chosen)
        if state >> unit & 1 and not after[unit] & state & ~chosen:
            found += endings(state, unit - 1, chosen | 1 << unit)
        return found

    @cache
    def allowed(ending: int) -> bool:
        groups: list[int] = []
        for unit in range(count):
            if ending >> unit & 1:
                joined = 1 << unit | (before[unit] | after[unit]) & ending
                apart = [group for group in groups if not group & joined]
                for group in groups:
                    joined |= group if group & joined else 0
                groups = [*apart, joined]
        return len(groups) <= most_groups and all(group.bit_count() <= most_units for group in groups)

    @cache
    def best(state: int) -> float:
        nonlocal transitions
        if not state:
            return 0.0
        choices = endings(state, count - 1, 0)
        transitions += len(choices)
        return min(seconds(ending) + best(state & ~ending) for ending in choices)

    return best((1 << count) - 1), transitions
