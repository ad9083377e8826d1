"""Where each value of a program lies in one block of memory; see `iosfarm.kernels.memory`."""

from __future__ import annotations

from iosfarm.kernels.cuda.device.gpu import ALIGNMENT
from iosfarm.kernels.cuda.program.dependencies import Dependencies, descendants
from iosfarm.kernels.cuda.program.steps import Program
from iosfarm.kernels.memory import MemoryPlan, plan_values

__all__ = ["MemoryPlan", "plan_memory"]


def plan_memory(program: Program, dependencies: Dependencies) -> MemoryPlan:
    """Offsets for steps that run in this order. Inputs and outputs keep their memory to themselves."""
    touching = [0] * len(program.values)
    for number, step in enumerate(program.steps):
        for value in step.touched:
            touching[value] |= 1 << number
    sizes = [value.size for value in program.values]
    return plan_values(sizes, touching, descendants(dependencies), ALIGNMENT, {*program.inputs, *program.outputs})
