"""What a device cannot compute or hold, told before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import DTYPES
from iosfarm.ir.operators import Shape
from iosfarm.kernels.cuda.device.gpu import Gpu

CAPABILITY = {"float32": (0, 0), "float16": (5, 3), "bfloat16": (8, 0)}
"""Compute capability from which devices have a dtype; TF32 comes with bfloat16."""

ROOM = 0.95
"""Share of a device's memory that a program may take: the rest is the driver's and the libraries'."""


def check_size(gpu: Gpu, dtype: str, shapes: Sequence[Shape]) -> None:
    """Whether a device has a dtype and room for tensors of these shapes.

    Raises:
        Infeasible: it can never run here. MemoryError: it does not fit just now.
    """
    facts = gpu.facts
    if facts.capability < CAPABILITY[dtype]:
        raise Infeasible(f"{facts.name} ({facts.architecture}) has no {dtype}")
    needed = sum(map(math.prod, shapes)) * DTYPES[dtype]
    gib = 2**30
    if needed > ROOM * facts.memory:
        have = facts.memory / gib
        raise Infeasible(f"needs at least {needed / gib:.1f} GiB of memory; {facts.name} has {have:.1f} GiB")
    free = gpu.memory_free()
    if needed > free:
        raise MemoryError(f"needs at least {needed / gib:.1f} GiB; the GPU has {free / gib:.1f} GiB free now")
