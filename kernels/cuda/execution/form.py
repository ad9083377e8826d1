"""A program in one order on one set of lanes and buffers: what can be put on streams, run and captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iosfarm.kernels.cuda.device.gpu import Event, Gpu, Graph, Stream
from iosfarm.kernels.cuda.program.dependencies import Dependencies
from iosfarm.kernels.cuda.program.lanes import Placement, enqueue, place
from iosfarm.kernels.cuda.program.memory import MemoryPlan, plan_memory
from iosfarm.kernels.cuda.program.steps import Lane, Program

Mark = Callable[[int, Stream, bool], None]
"""(step, its stream, whether it begins): called before and after each step is put on its stream."""


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
    """A form on a device. arenas: where its values lie, in one or more places. parameters: the address of each step's
    weights, for each of one or more sets of weights. Executions that follow each other take turns with both.
    """

    gpu: Gpu
    lanes: Sequence[Lane]
    form: Form
    arenas: Sequence[int]
    parameters: Sequence[Sequence[int]]

    def address(self, value: int, turn: int = 0) -> int:
        """Of a value."""
        return self.arenas[turn % len(self.arenas)] + self.form.memory.offsets[value]

    def enqueue(self, turn: int = 0, mark: Mark | None = None) -> list[Event]:
        """Put one execution on the lanes, with the memory whose turn it is; see `lanes.enqueue`."""
        weights = self.parameters[turn % len(self.parameters)]

        def start(number: int) -> None:
            step = self.form.program.steps[number]
            lane = self.lanes[self.form.placement.lane[number]]
            if mark is not None:
                mark(number, lane.stream, True)
            step.call.enqueue(
                lane,
                [self.address(value, turn) for value in step.reads],
                [self.address(value, turn) for value in step.writes],
                weights[number],
                0 if step.scratch is None else self.address(step.scratch, turn),
            )
            if mark is not None:
                mark(number, lane.stream, False)

        return enqueue(self.gpu, self.lanes, self.form.placement, start)

    def capture(self, copies: int, mark: Mark | None = None) -> Graph:
        """A graph of some executions, one after the other, in turns."""
        home = self.lanes[0].stream
        self.gpu.begin_capture(home)
        try:
            events = [self.enqueue(turn, mark) for turn in range(copies)]
            graph = self.gpu.end_capture(home)
        except BaseException:
            self.gpu.abort_capture(home)
            raise
        del events  # they had to live until here
        return graph
