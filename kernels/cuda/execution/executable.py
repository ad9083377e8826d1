"""What runs a program on a GPU and times it: one stage or a whole schedule, through the same code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

from iosfarm.kernels.cuda.device.gpu import Gpu, Graph, Stream
from iosfarm.kernels.cuda.device.layout import from_device, to_device
from iosfarm.kernels.cuda.execution.form import Bound
from iosfarm.kernels.cuda.execution.residency import Residency
from iosfarm.kernels.runtime import Array

SHORTEST = 200e-6
"""Seconds that one timed replay lasts at least: far more than an event's resolution and a graph's launch."""

MAX_COPIES = 64
MAX_NODES = 4096
"""Of one graph: capturing takes a few microseconds for each node."""

POISON = 0xFF
"""Every byte of memory before a checked run: a NaN in every dtype."""


@dataclass(frozen=True)
class Setup:
    """Of what an executable is made. timing: `graph` replays captured executions; `streams` launches each call by call.
    cold: see `CudaExecutable`. on_close: told once.
    """

    dtype: str
    timing: str
    cold: bool
    memory: Residency
    on_close: Callable[[CudaExecutable], None]


class CudaExecutable:
    """See `Executable`.

    Executions that are timed follow each other at once, and inputs stay in place. Where weights are random there can be
    several sets of them, taken in turns, so that they do not stay in the cache between executions: in a network they
    were last used one inference ago. If it is `cold`, neither inputs nor weights are in the cache: each execution of a
    replay has memory of its own, and the cache is emptied between replays.
    """

    def __init__(self, setup: Setup) -> None:
        self._bound = setup.memory.bound()
        self._memory = setup.memory
        self._cold = setup.cold
        self._dtype = setup.dtype
        self._timing = setup.timing
        self._on_close = setup.on_close
        self._closed = False
        self._once: Graph | None = None
        self._many: tuple[Graph | None, int] | None = None
        self._given: Sequence[Array] | None = None

    @property
    def bound(self) -> Bound:
        """What runs, and where."""
        return self._bound

    def run(self, *inputs: Array) -> list[Array]:
        """See `Executable.run`."""
        self._check_open()
        program = self._bound.form.program
        shapes = [program.values[value].shape for value in program.inputs]
        if inputs:
            if len(inputs) != len(shapes):
                raise ValueError(f"expected {len(shapes)} input(s), got {len(inputs)}")
            for number, (array, shape) in enumerate(zip(inputs, shapes, strict=True)):
                if tuple(array.shape) != shape:
                    raise ValueError(f"input {number} has the shape {list(array.shape)}, not {list(shape)}")
            self._given = inputs
        gpu, home = self._gpu, self._home
        # What an earlier run left must not make up for what this one fails to write.
        gpu.fill(self._bound.arenas[0], POISON, self._bound.form.memory.size, home)
        gpu.synchronize(home)
        self._write_inputs()
        self._execute()
        gpu.synchronize(home)
        return [
            from_device(gpu.download(self._bound.address(value), program.values[value].size), shape, self._dtype)
            for value, shape in zip(program.outputs, program.shapes, strict=True)
        ]

    def time(self, repeats: int) -> list[float]:
        """See `Executable.time`. Inputs are those of the last `run`, or random ones. One of the times that are returned
        is the mean of as many executions as make a replay long enough for the clock.
        """
        self._check_open()
        if repeats < 1:
            raise ValueError(f"cannot time {repeats} executions")
        if self._many is None:
            self._prepare_timing()
        return self._replays(repeats)

    def close(self) -> None:
        """See `Executable.close`."""
        if not self._closed:
            self._closed = True
            self._once = self._many = None
            self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle an executable: it holds memory of a GPU and graphs of this process")

    # ------------------------------------------------------------------------------------------------------------

    @property
    def _gpu(self) -> Gpu:
        return self._bound.gpu

    @property
    def _home(self) -> Stream:
        return self._bound.lanes[0].stream

    def _write_inputs(self) -> None:
        """Those of the last `run`, or random ones."""
        for turn, arena in enumerate(self._bound.arenas):
            if self._given is None:
                self._memory.fill_inputs(arena)
                continue
            for value, array in zip(self._bound.form.program.inputs, self._given, strict=True):
                self._gpu.upload(self._bound.address(value, turn), to_device(array, self._dtype))

    def _execute(self) -> None:
        """Once, on home. The first time without a graph: libraries set themselves up then, and must not be captured."""
        if self._timing == "streams":
            self._bound.enqueue()
            return
        if self._once is None:
            self._bound.enqueue()
            self._gpu.synchronize(self._home)
            self._once = self._bound.capture(1)
        self._gpu.launch_graph(self._once, self._home)

    def _prepare_timing(self) -> None:
        """Decide how many executions one sample has, and capture them."""
        self._write_inputs()
        for _ in range(2):
            self._execute()
        self._gpu.synchronize(self._home)
        self._many = self._once, 1  # no graph where there are none
        shortest = min(self._replays(3))
        most = min(MAX_COPIES, MAX_NODES // len(self._bound.form.program.steps))
        copies = max(1, min(most, math.ceil(SHORTEST / shortest)))
        self._bound = self._memory.cold(copies) if self._cold else self._memory.warm(copies)
        if self._cold:
            copies = len(self._bound.arenas)
            self._write_inputs()
        if self._timing == "streams":
            self._many = None, copies
        elif copies > 1 or len(self._bound.parameters) > 1:
            self._many = self._bound.capture(copies), copies
        self._replays(1)

    def _replays(self, count: int) -> list[float]:
        """Seconds of an execution in each of `count` replays, by events between them on the device."""
        assert self._many is not None
        graph, copies = self._many
        gpu, home = self._gpu, self._home
        pairs = [(gpu.event(timing=True), gpu.event(timing=True)) for _ in range(count)]
        if not self._cold:
            # One that is not timed goes before: it hides from the device how long the host takes to launch the others.
            self._replay(graph, copies)
        for begin, end in pairs:
            if self._cold:
                self._memory.cool()
            gpu.record(begin, home)
            self._replay(graph, copies)
            gpu.record(end, home)
        gpu.synchronize(home)
        return [max(gpu.elapsed(begin, end), 1e-9) / copies for begin, end in pairs]

    def _replay(self, graph: Graph | None, copies: int) -> None:
        if graph is not None:
            self._gpu.launch_graph(graph, self._home)
            return
        for turn in range(copies):
            self._bound.enqueue(turn)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this executable is closed")
