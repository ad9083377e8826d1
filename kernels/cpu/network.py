"""A whole schedule as a program is run again and again: tensors in and out, and what ran when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from iosfarm.kernels.cpu.arena import Arena
from iosfarm.kernels.cpu.executable import CpuExecutable
from iosfarm.kernels.cpu.operators.prepared import Values
from iosfarm.kernels.cpu.streams import Streams
from iosfarm.kernels.network import Span, is_channels_last

WARMUP = 2


class CpuNetwork(CpuExecutable):
    """Beside what every executable does. names: of each stage the names of its units, in the order of `Stage.units`."""

    def __init__(
        self,
        streams: Streams,
        arena: Arena,
        inputs: Sequence[Tensor],
        outputs: Sequence[int],
        scratch: Tensor,
        on_close: Callable[[CpuExecutable], None],
        names: Sequence[Sequence[str]],
    ) -> None:
        super().__init__(streams, arena, inputs, outputs, scratch, on_close)
        self._names = names

    def run_tensors(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `TakesTensors.run_tensors`."""
        self._check_open()
        outputs = self._streams.home.call(lambda: self._run_on(inputs))
        last = any(is_channels_last(tensor) for tensor in inputs)
        # On this thread: what home makes under inference mode cannot be used with autograd, its copies can.
        return [
            tensor.clone(memory_format=torch.channels_last if last and tensor.dim() == 4 else torch.contiguous_format)
            for tensor in outputs
        ]

    def trace(self) -> list[Span]:
        """See `Traceable.trace`."""
        self._check_open()
        return self._streams.home.call(self._traced)

    # -- on home -------------------------------------------------------------------------------------------------

    def _run_on(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        values: Values = list(self._places)
        for slot, (buffer, tensor) in enumerate(zip(self._inputs, inputs, strict=True)):
            # An input that is laid out as stages want it is read in place: operators change nothing but their results.
            values[slot] = tensor if _is_laid_out_like(tensor, buffer) else buffer.copy_(tensor)
        self._execute(values)
        return [tensor for tensor in (values[slot] for slot in self._outputs) if tensor is not None]

    def _traced(self) -> list[Span]:
        for _ in range(WARMUP):
            self._execute(self._fresh())
        values = self._fresh()
        spans: list[Span] = []
        origin = time.perf_counter()
        for position in range(len(self._stages)):
            begin = time.perf_counter()
            self._trace_stage(position, values, origin, spans)
            end = time.perf_counter()
            spans.append(Span(position, None, tuple(self._names[position]), begin - origin, end - origin))
        return spans

    def _trace_stage(self, position: int, values: Values, origin: float, spans: list[Span]) -> None:
        stage, names = self._stages[position], self._names[position]
        groups = iter(zip(stage.groups, stage.units, strict=True))

        def run() -> None:
            stream = threading.current_thread().name
            for steps, owners in groups:
                for number, (step, units) in enumerate(zip(steps, owners, strict=True)):
                    if not number or owners[number - 1] != units:
                        begin = time.perf_counter()
                    step(values)
                    if number + 1 == len(steps) or owners[number + 1] != units:
                        own = tuple(names[unit] for unit in units)
                        spans.append(Span(position, stream, own, begin - origin, time.perf_counter() - origin))

        if len(stage.groups) == 1:
            run()
        else:
            self._streams.fork(self._beside[position], run)
        for slot in stage.dead:
            values[slot] = None


def _is_laid_out_like(tensor: Tensor, buffer: Tensor) -> bool:
    return tensor.stride() == buffer.stride() and tensor.dtype == buffer.dtype
