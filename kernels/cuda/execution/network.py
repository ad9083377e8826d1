"""A whole schedule on a GPU, as a program is run again and again: tensors in and out, and what ran when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import PlacedStage
from iosfarm.kernels.cuda.execution.executable import CudaExecutable, Setup
from iosfarm.kernels.cuda.execution.stamps import Run, stamps
from iosfarm.kernels.network import Busy, Span, is_channels_last

if TYPE_CHECKING:
    from torch import Tensor

WARMUP = 2


@dataclass(frozen=True)
class Contents:
    """Of each stage, for its units in the order of `Stage.units`: their names and their floating-point operations.

    peak: operations a second of the device.
    """

    names: Sequence[Sequence[str]]
    work: Sequence[Sequence[int]]
    peak: float


def contents_of(graph: Graph, placed: Sequence[PlacedStage], peak: float) -> Contents:
    """Of a schedule's stages."""
    units = [[graph.units[unit] for group in item.groups for unit in group] for item in placed]
    work = {operator.name: graph.flops(operator) for operator in graph.operators}
    return Contents(
        [[unit.name for unit in stage] for stage in units],
        [[sum(work[name] for name in unit.operators) for unit in stage] for stage in units],
        peak,
    )


class CudaNetwork(CudaExecutable):
    """Beside what every executable does. contents: of the schedule."""

    def __init__(self, contents: Contents, setup: Setup) -> None:
        super().__init__(setup)
        self._contents = contents

    def run_tensors(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `TakesTensors.run_tensors`."""
        self.put(inputs)
        self.execute()
        return self.fetch(channels_last=any(is_channels_last(tensor) for tensor in inputs))

    def put(self, inputs: Sequence[Tensor]) -> None:
        """See `StaysOnDevice.put`."""
        from iosfarm.kernels.cuda.device.torch_tensors import bytes_of

        self._check_open()
        for value, tensor in zip(self._bound.form.program.inputs, inputs, strict=True):
            self._gpu.upload(self._bound.address(value), bytes_of(tensor))

    def execute(self) -> None:
        """See `StaysOnDevice.execute`."""
        self._check_open()
        self._execute()
        self._gpu.synchronize(self._home)

    def fetch(self, *, channels_last: bool = False) -> list[Tensor]:
        """See `StaysOnDevice.fetch`."""
        from iosfarm.kernels.cuda.device.torch_tensors import tensor_of

        self._check_open()
        program, found = self._bound.form.program, []
        for value, shape in zip(program.outputs, program.shapes, strict=True):
            data = self._gpu.download(self._bound.address(value), program.values[value].size)
            found.append(tensor_of(data, shape, self._dtype, channels_last))
        return found

    def trace(self) -> list[Span]:
        """See `Traceable.trace`. The clock is read by small kernels between the others; that of many GPUs counts
        microseconds. A unit for which nothing has to run has no span.
        """
        found, names = self._timed_runs(), self._contents.names
        lanes = len(str(max((run.lane for run, _, _ in found), default=0)))
        spans = [
            Span(run.stage, f"stream {run.lane:0{lanes}}", tuple(names[run.stage][u] for u in run.units), begin, end)
            for run, begin, end in found
            if run.units
        ]
        for stage, units in enumerate(names):
            own = [(begin, end) for run, begin, end in found if run.stage == stage]
            if own:
                spans.append(Span(stage, None, tuple(units), min(b for b, _ in own), max(e for _, e in own)))
        return spans

    def utilisation(self) -> list[Busy]:
        """See `TellsUtilisation.utilisation`: what units compute over the time they take, of the most that the device
        can do in their precision at its highest clock.

        Raises:
            UsageError: the device does not tell its clock.
        """
        peak, work = self._contents.peak, self._contents.work
        if not peak:
            raise UsageError("this GPU does not tell its clock, so that no share of its rate can be told")
        changes: list[tuple[float, float]] = []
        for run, begin, end in self._timed_runs():
            if end > begin:
                rate = sum(work[run.stage][unit] for unit in run.units) / (end - begin) / peak
                changes += [(begin, rate), (end, -rate)]
        changes.sort()
        busy, level = [], 0.0
        for (begin, change), (end, _) in pairwise(changes):
            level += change
            if end > begin:
                # Work without any arithmetic, such as a copy, counts as nothing: rounding must not make less of it.
                busy.append(Busy(begin, end, min(1.0, max(0.0, level))))
        return busy

    def _timed_runs(self) -> list[tuple[Run, float, float]]:
        """Execute once, warm, with stamps; seconds since the beginning."""
        self._check_open()
        self._write_inputs()
        for _ in range(WARMUP):
            self._execute()
        with stamps(self._bound) as stamped:
            stamped.execute(captured=self._timing == "graph")
            return [(run, *times) for run, times in zip(stamped.runs, stamped.seconds(), strict=True)]
