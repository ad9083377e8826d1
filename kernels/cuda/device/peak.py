"""The most products that a GPU can do, to say what share of it is in use."""

from __future__ import annotations

from iosfarm.kernels.cuda.device.gpu import GpuFacts

CORES = {(0, 0): 128, (6, 0): 64, (6, 1): 128, (7, 0): 64, (8, 6): 128, (9, 0): 128}
"""Multiply-adds of float32 in a clock of one multiprocessor, from each compute capability on; (8, 0) has 64, as (7, 0).
Source: CUDA C++ Programming Guide, throughput of native arithmetic instructions.
"""

TENSOR = {(7, 0): 512, (8, 0): 1024, (8, 6): 512, (9, 0): 2048, (10, 0): 4096, (12, 0): 512}
"""Multiply-adds of half precision by tensor cores, dense, sums in float32. Source: NVIDIA's white papers of the Volta,
Ampere, Ada, Hopper and Blackwell architectures.
"""

TF32 = (8, 0)
"""From where tensor cores multiply float32 rounded to TF32, at half the rate."""


def peak_rate(facts: GpuFacts, dtype: str, precision: str) -> float:
    """Floating-point operations a second at the highest clock; 0 where the clock is not known.

    precision: of float32, `ieee` or `tf32`.
    """
    tensor = dtype != "float32" or (precision == "tf32" and facts.capability >= TF32)
    most = _of(TENSOR if tensor and facts.capability >= min(TENSOR) else CORES, facts.capability)
    if dtype == "float32" and tensor:
        most //= 2
    return 2.0 * most * facts.sms * facts.clock


def _of(table: dict[tuple[int, int], int], capability: tuple[int, int]) -> int:
    return table[max(known for known in table if known <= capability)]
