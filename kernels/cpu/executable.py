"""What runs a program: one stage or a whole schedule, through the same code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NoReturn, Self

import torch
from torch import Tensor

from iosfarm.kernels.cpu.arena import Arena
from iosfarm.kernels.cpu.operators.prepared import Values
from iosfarm.kernels.cpu.streams import Streams
from iosfarm.kernels.cpu.weights import array_of, tensor_of
from iosfarm.kernels.runtime import Array


class CpuExecutable:
    """Stages in order on the streams of a runtime. Slot k < len(inputs) holds input k.

    Each stage begins on home, forks where it has several groups, and ends on home, so that a schedule takes what its
    stages take, one after the other. A stage that is timed alone must find what it would find in a network: before
    each execution, untimed, `scratch` is changed, which takes the place of most of what the second-level caches hold
    (weights and free memory were used long ago), then the inputs are written anew (the stage before made them).
    """

    def __init__(
        self,
        streams: Streams,
        arena: Arena,
        inputs: Sequence[Tensor],
        outputs: Sequence[int],
        scratch: Tensor,
        on_close: Callable[[CpuExecutable], None],
    ) -> None:
        self._streams = streams
        self._stages, self._places = arena.stages, arena.places
        self.arena_bytes = arena.size
        """What was planned: operators that cannot be told where to write take memory beside, and so do inputs."""
        self._sources = list(inputs)
        self._inputs = [torch.empty_like(tensor) for tensor in inputs]
        self._outputs = outputs
        self._scratch = scratch
        self._on_close = on_close
        self._closed = False
        self._beside = [streams.beside(len(p.groups)) if len(p.groups) > 1 else [] for p in arena.stages]

    def run(self, *inputs: Array) -> list[Array]:
        """See `Executable.run`."""
        self._check_open()
        if inputs:
            if len(inputs) != len(self._sources):
                raise ValueError(f"expected {len(self._sources)} input(s), got {len(inputs)}")
            for number, (array, source) in enumerate(zip(inputs, self._sources, strict=True)):
                if array.shape != tuple(source.shape):
                    raise ValueError(f"input {number} has the shape {array.shape}, not {tuple(source.shape)}")
            self._sources = [tensor_of(a, s.dtype) for a, s in zip(inputs, self._sources, strict=True)]
        return self._streams.home.call(self._run_once)

    def time(self, repeats: int) -> list[float]:
        """See `Executable.time`. Inputs are those of the last `run`, or random ones."""
        self._check_open()
        if repeats < 1:
            raise ValueError(f"cannot time {repeats} executions")
        return self._streams.home.call(lambda: [self._timed() for _ in range(repeats)])

    def time_stages(self, repeats: int) -> list[list[float]]:
        """Seconds of each stage in each of `repeats` executions of the whole: what the stages take in place."""
        self._check_open()
        return self._streams.home.call(lambda: [self._timed_stages() for _ in range(repeats)])

    def close(self) -> None:
        """See `Executable.close`."""
        if not self._closed:
            self._closed = True
            self._stages, self._places, self._sources, self._inputs = (), (), [], []
            self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle an executable: it holds threads and memory of this process")

    # -- on home -------------------------------------------------------------------------------------------------

    def _run_once(self) -> list[Array]:
        values = self._fresh()
        self._execute(values)
        return [array_of(tensor) for tensor in (values[slot] for slot in self._outputs) if tensor is not None]

    def _timed(self) -> float:
        self._scratch.add_(1)
        values = self._fresh()
        begin = time.perf_counter()
        self._execute(values)
        # What the stage made is given back within its time, as the stages of a schedule do.
        values.clear()
        return time.perf_counter() - begin

    def _fresh(self) -> Values:
        values: Values = list(self._places)
        for slot, (buffer, source) in enumerate(zip(self._inputs, self._sources, strict=True)):
            values[slot] = buffer.copy_(source)
        return values

    def _timed_stages(self) -> list[float]:
        values = self._fresh()
        times = []
        for position in range(len(self._stages)):
            begin = time.perf_counter()
            self._execute_stage(position, values)
            times.append(time.perf_counter() - begin)
        return times

    def _execute(self, values: Values) -> None:
        for position in range(len(self._stages)):
            self._execute_stage(position, values)

    def _execute_stage(self, position: int, values: Values) -> None:
        stage = self._stages[position]
        if len(stage.groups) == 1:
            for step in stage.groups[0]:
                step(values)
        else:
            groups = iter(stage.groups)

            def run() -> None:
                for group in groups:
                    for step in group:
                        step(values)

            self._streams.fork(self._beside[position], run)
        for slot in stage.dead:
            values[slot] = None

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this executable is closed")
