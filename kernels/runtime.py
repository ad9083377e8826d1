"""The contract of what executes: `Runtime` and `Executable`.

Implementations add no second description. All pass the conformance suite in `tests/kernels/conformance.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.device import Device, Environment
from iosfarm.ir.graph import Graph
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage

Array = NDArray[np.generic]
Weights = Mapping[str, Array]
"""`operator.parameter` -> values, for instance `conv2d_1.weight`; shapes as `Graph.parameters` gives them."""


class Executable(Protocol):
    """Something prepared: run it, time it, close it. A context manager; not safe to share between threads."""

    def run(self, *inputs: Array) -> list[Array]:
        """Execute once and return outputs, NCHW, float32 on the host, whatever the layout inside.

        For a stage: one output a unit, in the order of `stage.units`; for a schedule: the graph's outputs. Without
        inputs, random ones are used. What is returned is the caller's: later runs do not change it.

        Raises:
            ValueError: inputs of a wrong number or shape.
        """
        ...

    def time(self, repeats: int) -> list[float]:
        """Execute `repeats` times after each other; seconds of each execution, measured on the device.

        Inputs are in place and warm; nothing is copied from or to the host inside the time.

        Raises:
            ValueError: `repeats` is below 1.
        """
        ...

    def close(self) -> None:
        """Give everything back. Closing twice is allowed; using it afterwards raises RuntimeError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Runtime(Protocol):
    """One device in one environment. One process, one thread uses it; executables are made and closed in any order.

    Neither runtimes nor executables can be pickled (TypeError); a closed one raises RuntimeError when it is used. Any
    method may raise `DeviceLost`: then this process can do no more with the device.
    """

    @property
    def layout(self) -> str:
        """The memory layout that stages have on this runtime, `nchw` or `nhwc`: part of a stage's key."""
        ...

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms in which it can execute a schedule, `stages` first: see `Schedule`."""
        ...

    def fingerprint(self) -> tuple[Device, Environment]:
        """What measures and what else decides a latency. Does not change while the runtime lives."""
        ...

    def prepare(self, stage: Stage, weights: Sequence[Mapping[str, Array]] | None = None) -> Executable:
        """Allocate, pick plans, capture. Random weights unless given: one mapping for each of `stage.operators`.

        Raises:
            Infeasible: this stage can never run here (too large, an operator or dtype that the device lacks).
            UsageError: the stage has another layout, or a weight is missing or of another shape.
            MemoryError: it would fit, but not into what is free now.
        """
        ...

    def prepare_schedule(self, graph: Graph, schedule: Schedule, weights: Weights) -> Executable:
        """A whole network in the form that the schedule says: stage after stage, with a barrier between stages, or in
        another one of `forms`. One that this runtime lacks is executed stage after stage: it computes the same.

        Raises:
            Infeasible, MemoryError: as `prepare`. UsageError: the schedule or the weights do not fit the graph.
        """
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@runtime_checkable
class Planning(Protocol):
    """A runtime that times ways to compute the same, keeps the fastest as plans, and can be told those of others."""

    @property
    def plan_scope(self) -> PlanScope:
        """Whose plans are the same: that of everybody who may tell or be told."""
        ...

    def tell_plans(self, plans: Iterable[Plan]) -> None:
        """Plans that were found before. One that this runtime cannot follow is chosen anew."""
        ...

    def take_plans(self) -> list[Plan]:
        """Plans that were found or used since the last call, but those that were told."""
        ...
