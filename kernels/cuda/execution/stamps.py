"""When each unit of a program runs: a kernel that reads the GPU's clock before and after it, on its own stream.

Events cannot tell: those that are recorded while a graph is captured have no times. A kernel is a node like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iosfarm.kernels.cuda.catalogue.sources import source_text
from iosfarm.kernels.cuda.device.gpu import Event, Stream
from iosfarm.kernels.cuda.execution.form import Bound, Form

_BYTES = 8  # of a stamp


@dataclass(frozen=True)
class Run:
    """Steps of one unit, or of several merged ones, that follow each other on a lane. first, last: numbers of steps."""

    stage: int
    units: tuple[int, ...]
    lane: int
    first: int
    last: int


def runs(form: Form) -> list[Run]:
    """Of a program, in the order of launching."""
    found: list[Run] = []
    latest: dict[int, int] = {}  # of each lane: its last run
    for number, (step, lane) in enumerate(zip(form.program.steps, form.placement.lane, strict=True)):
        before = found[latest[lane]] if lane in latest else None
        if before is not None and (before.stage, before.units) == (step.stage, step.units):
            found[latest[lane]] = Run(step.stage, step.units, lane, before.first, number)
            continue
        latest[lane] = len(found)
        found.append(Run(step.stage, step.units, lane, number, number))
    return found


class Stamps:
    """Places for the times of a bound program's runs, and for when the whole begins."""

    def __init__(self, bound: Bound, address: int) -> None:
        self.runs = runs(bound.form)
        self._bound = bound
        self._address = address
        self._kernel = bound.gpu.compile(source_text("stamp.cu"), (), "stamp")
        self._places = {(run.first, True): 1 + 2 * number for number, run in enumerate(self.runs)}
        self._places |= {(run.last, False): 2 + 2 * number for number, run in enumerate(self.runs)}

    def execute(self, captured: bool) -> None:
        """Once, with stamps: as a graph, or call by call; the stream of the first lane ends with it."""
        home = self._bound.lanes[0].stream
        self._stamp(0, home)  # a kernel that was never launched may still have to be loaded: not while capturing
        self._bound.gpu.synchronize(home)
        graph = self._bound.capture(1, self._mark) if captured else None
        self._stamp(0, home)
        events: list[Event] = []
        if graph is None:
            events = self._bound.enqueue(mark=self._mark)
        else:
            self._bound.gpu.launch_graph(graph, home)
        self._bound.gpu.synchronize(home)
        del graph, events  # they had to live until here

    def seconds(self) -> list[tuple[float, float]]:
        """Begin and end of each run, from the beginning of the whole, once everything has run."""
        data = self._bound.gpu.download(self._address, stamp_bytes(self.runs))
        times: NDArray[np.uint64] = data.view(np.uint64)
        since = (times - times[0]).astype(np.float64) * 1e-9
        return [(float(b), float(e)) for b, e in zip(since[1::2], since[2::2], strict=True)]

    def _mark(self, step: int, stream: Stream, begins: bool) -> None:
        place = self._places.get((step, begins))
        if place is not None:
            self._stamp(place, stream)

    def _stamp(self, place: int, stream: Stream) -> None:
        target = np.uint64(self._address + _BYTES * place)
        self._bound.gpu.launch(self._kernel, (1, 1, 1), (1, 1, 1), 0, [target], stream)


def stamp_bytes(found: Sequence[Run]) -> int:
    """Of the stamps of so many runs."""
    return _BYTES * (1 + 2 * len(found))


@contextmanager
def stamps(bound: Bound) -> Iterator[Stamps]:
    """With memory of their own for as long as it takes; nothing may run any more when it ends.

    Raises:
        MemoryError: there is no room just now.
    """
    address = bound.gpu.allocate(stamp_bytes(runs(bound.form)))
    try:
        yield Stamps(bound, address)
    finally:
        bound.gpu.release(address)
