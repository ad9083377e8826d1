"""Figures of the IOS paper (see `SOURCE`).

Where the paper rounds to two digits (transitions and schedules of Table 1), the figures here are those that were
published beside its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "Ding et al., IOS: Inter-Operator Scheduler for CNN Acceleration, MLSys 2021, arXiv 2011.01302"

BOUND_DIGITS = 2
SCHEDULES_DIGITS = 4


@dataclass(frozen=True)
class SpaceSize:
    """A row of Table 1: the largest block of a network.

    units: n. width: d, the most units of which none waits for another. bound: C(n/d + 2, 2)^d, to two digits.
    transitions: pairs of a state and the next, without pruning. schedules: to four digits.
    """

    units: int
    width: int
    bound: float
    transitions: int
    schedules: float


TABLE_1: Mapping[str, SpaceSize] = {
    "inception_v3": SpaceSize(11, 6, 2.6e4, 4_871, 3.757e6),
    "randwire": SpaceSize(33, 8, 3.7e9, 1_170_663, 9.197e22),
    "nasnet_large": SpaceSize(18, 8, 5.2e6, 307_841, 7.151e12),
    "squeezenet": SpaceSize(6, 3, 2.2e2, 51, 131),
}

TABLE_2: Mapping[str, int] = {"inception_v3": 119, "randwire": 120, "nasnet_large": 374, "squeezenet": 50}
"""Operators that are scheduled; we call them units."""
