"""What runs a program on a GPU and times it: one stage or a whole schedule, through the same code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NoReturn, Self

from iosfarm.kernels.cuda.form import Bound
from iosfarm.kernels.cuda.gpu import Gpu, Graph, Stream
from iosfarm.kernels.cuda.layout import from_device, to_device
from iosfarm.kernels.runtime import Array

SHORTEST = 200e-6
"""Seconds that one timed replay lasts at least: far more than an event's resolution and a graph's launch."""

MAX_COPIES = 64
MAX_NODES = 4096
"""Of one graph: capturing takes a few microseconds for each node."""

POISON = 0xFF
"""Every byte of memory before a checked run: a NaN in every dtype."""


class CudaExecutable:
    """See `Executable`. `timing`: `graph` replays captured executions; `streams` launches each call by call.

    Executions that are timed follow each other at once, and inputs stay in place. Where weights are random there can be
    several sets of them, taken in turns, so that they do not stay in the cache between executions: in a network they
    were last used one inference ago.
    """

    def __init__(
        self,
        bound: Bound,
        dtype: str,
        timing: str,
        fill_inputs: Callable[[], None],
        more_weights: Callable[[int], Sequence[Sequence[int]]],
        on_close: Callable[[CudaExecutable], None],
    ) -> None:
        """fill_inputs: writes random inputs. more_weights: up to so many sets of weights, the given one included."""
        self._bound = bound
        self._dtype = dtype
        self._timing = timing
        self._fill_inputs = fill_inputs
        self._more_weights = more_weights
        self._on_close = on_close
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
        gpu.fill(self._bound.arena, POISON, self._bound.form.memory.size, home)
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
        if self._given is None:
            self._fill_inputs()
            return
        for value, array in zip(self._bound.form.program.inputs, self._given, strict=True):
            self._gpu.upload(self._bound.address(value), to_device(array, self._dtype))

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
        sets = self._more_weights(copies)
        self._bound = Bound(self._gpu, self._bound.lanes, self._bound.form, self._bound.arena, sets)
        if self._timing == "streams":
            self._many = None, copies
        elif copies > 1 or len(sets) > 1:
            self._many = self._bound.capture(copies), copies
        self._replays(1)

    def _replays(self, count: int) -> list[float]:
        """Seconds of an execution in each of `count` replays, by events between them on the device."""
        assert self._many is not None
        graph, copies = self._many
        gpu, home = self._gpu, self._home
        events = [gpu.event(timing=True) for _ in range(count + 1)]
        # One that is not timed goes before: it hides from the device how long the host takes to launch the others.
        self._replay(graph, copies)
        gpu.record(events[0], home)
        for event in events[1:]:
            self._replay(graph, copies)
            gpu.record(event, home)
        gpu.synchronize(home)
        return [max(gpu.elapsed(before, after), 1e-9) / copies for before, after in pairwise(events)]

    def _replay(self, graph: Graph | None, copies: int) -> None:
        if graph is not None:
            self._gpu.launch_graph(graph, self._home)
            return
        for copy in range(copies):
            self._bound.enqueue(copy % len(self._bound.parameters))

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this executable is closed")
