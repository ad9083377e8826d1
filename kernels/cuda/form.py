"""A program in one order on one set of lanes and buffers: what can be put on streams, run and captured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.kernels.cuda.dependencies import Dependencies
from iosfarm.kernels.cuda.gpu import Event, Gpu, Graph
from iosfarm.kernels.cuda.lanes import Placement, enqueue, place
from iosfarm.kernels.cuda.memory import MemoryPlan, plan_memory
from iosfarm.kernels.cuda.steps import Lane, Program


@dataclass(frozen=True)
class Form:
    """A program with its order, the lanes of its steps and the places of its values."""

    program: Program
    dependencies: Dependencies
    placement: Placement
    memory: MemoryPlan


def form_of(program: Program, dependencies: Dependencies) -> Form:
    """Lanes and memory for a program that runs in this order."""
    return Form(program, dependencies, place(dependencies), plan_memory(program, dependencies))


@dataclass(frozen=True)
class Bound:
    """A form on a device. arena: where its values lie. parameters: the address of each step's weights, for each of one
    or more sets of weights.
    """

    gpu: Gpu
    lanes: Sequence[Lane]
    form: Form
    arena: int
    parameters: Sequence[Sequence[int]]

    def address(self, value: int) -> int:
        """Of a value."""
        return self.arena + self.form.memory.offsets[value]

    def enqueue(self, weights: int = 0) -> list[Event]:
        """Put one execution on the lanes, with that set of weights; see `lanes.enqueue`."""

        def start(number: int) -> None:
            step = self.form.program.steps[number]
            step.call.enqueue(
                self.lanes[self.form.placement.lane[number]],
                [self.address(value) for value in step.reads],
                [self.address(value) for value in step.writes],
                self.parameters[weights][number],
                0 if step.scratch is None else self.address(step.scratch),
            )

        return enqueue(self.gpu, self.lanes, self.form.placement, start)

    def capture(self, copies: int) -> Graph:
        """A graph of some executions, one after the other, each with the next set of weights."""
        home = self.lanes[0].stream
        self.gpu.begin_capture(home)
        try:
            events = [self.enqueue(copy % len(self.parameters)) for copy in range(copies)]
            graph = self.gpu.end_capture(home)
        except BaseException:
            self.gpu.abort_capture(home)
            raise
        del events  # they had to live until here
        return graph
