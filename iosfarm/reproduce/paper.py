"""Figures of the IOS paper (see `SOURCE`), latencies in seconds.

Where the paper rounds to two digits (transitions and schedules of Table 1) or only draws (figures), the numbers here
are those that were published beside its code (see `CODE`). Its latencies are of a Tesla V100, float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "Ding et al., IOS: Inter-Operator Scheduler for CNN Acceleration, MLSys 2021, arXiv 2011.01302"

CODE = "github.com/mit-han-lab/inter-operator-scheduler"

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

NETWORKS = tuple(TABLE_2)
"""The paper's four benchmarks."""

SCHEDULES = ("sequential", "greedy", "ios_merge", "ios_parallel", "ios_both")
FRAMEWORKS = ("tensorflow", "tensorflow_xla", "taso", "tvm_cudnn", "tensorrt")


def _milliseconds(columns: tuple[object, ...], *values: float) -> dict[object, float]:
    return {column: value / 1e3 for column, value in zip(columns, values, strict=True)}


LATENCIES: Mapping[str, Mapping[object, float]] = {
    network: _milliseconds((*SCHEDULES, *FRAMEWORKS), *values)
    for network, values in {
        "inception_v3": (6.51, 4.62, 5.39, 4.11, 4.03, 7.95, 9.95, 5.7, 4.88, 5.21),
        "randwire": (8.49, 6.27, 8.54, 6.02, 6.02, 12.06, 16.61, 8.42, 6.86, 8.33),
        "nasnet_large": (22.95, 16.78, 22.94, 16.04, 16.04, 24.73, 34.66, 21.29, 26.87, 24.66),
        "squeezenet": (0.86, 0.98, 0.74, 0.82, 0.73, 2.63, 4.08, 0.82, 0.9, 0.8),
    }.items()
}
"""Batch 1 (Figures 6 and 7): under each schedule, and of each framework."""

SEARCH_SECONDS: Mapping[str, float] = {"inception_v3": 48, "randwire": 4407, "nasnet_large": 3653, "squeezenet": 1}
"""Of IOS-Both, on one GPU."""

AUTO_TUNED: Mapping[str, float] = {
    "inception_v3": 4.95e-3,
    "randwire": 5.26e-3,
    "nasnet_large": 14.67e-3,
    "squeezenet": 0.75e-3,
}
"""TVM with kernels that it has tuned (Figure 12)."""

AUTO_TUNING_SECONDS = 26 * 3600.0
"""Of all four networks together, on eight GPUs."""

PRUNING: Mapping[str, Mapping[tuple[int, int], float]] = {
    "inception_v3": {(3, 8): 4.03, (2, 8): 4.04, (1, 8): 4.15, (3, 3): 4.1, (2, 3): 4.16, (1, 3): 4.26},
    "nasnet_large": {(3, 8): 16.0, (2, 8): 16.1, (1, 8): 16.7, (3, 3): 16.9, (2, 3): 16.9, (1, 3): 17.9},
}
"""Milliseconds by (r, s): the largest group and how many groups (Figure 9)."""

PRUNING_SEARCH_SECONDS: Mapping[str, Mapping[tuple[int, int], float]] = {
    "inception_v3": {(3, 8): 43, (2, 8): 25, (1, 8): 7, (3, 3): 29, (2, 3): 17, (1, 3): 5},
    "nasnet_large": {(3, 8): 3412, (2, 8): 2648, (1, 8): 492, (3, 3): 641, (2, 3): 360, (1, 3): 137},
}
"""By (r, s), on one GPU, of another run than `PRUNING`."""

SPECIALISED_BATCHES = (1, 32, 128)
SPECIALISED_DEVICES = ("k80", "v100")
SPECIALISATION: Mapping[object, Mapping[object, float]] = {
    1: _milliseconds(SPECIALISED_BATCHES, 4.03, 4.5, 4.63),
    32: _milliseconds(SPECIALISED_BATCHES, 29.21, 27.44, 27.93),
    128: _milliseconds(SPECIALISED_BATCHES, 105.98, 103.74, 103.29),
    "k80": _milliseconds(SPECIALISED_DEVICES, 13.87, 14.65),
    "v100": _milliseconds(SPECIALISED_DEVICES, 4.49, 4.03),
}
"""Inception V3: executed on -> optimised for -> seconds (Table 3)."""

BATCH_SIZES: Mapping[int, Mapping[object, float]] = {
    batch: _milliseconds(("sequential", "tensorrt", "ios_both"), *values)
    for batch, values in {
        1: (6.2, 4.82, 3.94),
        16: (17.95, 17.82, 15.17),
        32: (30.54, 29.97, 27.0),
        64: (55.67, 56.25, 51.11),
        128: (108.55, 106.84, 102.74),
    }.items()
}
"""Inception V3, seconds for a whole batch (Figure 11)."""

ACTIVE_WARPS_RATIO = 1.58
"""Of the motivating example under IOS's schedule over the sequential one (Figure 8)."""

EXAMPLE: Mapping[str, float] = {"sequential": 0.486e-3, "optimised": 0.333e-3}
"""The motivating example (Figure 2) with 375 channels, as the code's README runs it."""

LAST_BLOCK_SPEEDUPS: Mapping[int, float] = {1: 1.28, 32: 1.08}
"""Last block of Inception V3 (Figure 10): the schedule for a batch size over the one for the other, by batch size."""
