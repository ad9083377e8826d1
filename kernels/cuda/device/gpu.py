"""The few calls of a CUDA library that the runtime makes: everything else is written against this `Gpu`.

`cupy_gpu.CupyGpu` makes them for real. Tests put a recording stand-in in its place, which runs the kernels on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

Stream = NewType("Stream", object)
Event = NewType("Event", object)
Kernel = NewType("Kernel", object)
Graph = NewType("Graph", object)

Bytes = NDArray[np.uint8]

ALIGNMENT = 256
"""Bytes: addresses that `allocate` returns are multiples of it, as cudaMalloc's are."""


def rounded(size: int) -> int:
    """The next multiple of the alignment, at least one: what is empty has an address of its own too."""
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


@dataclass(frozen=True)
class GpuFacts:
    """What a device tells of itself. capability: (major, minor). memory, l2: bytes. driver: the driver's own version.

    cuda: of the runtime library that is in use. uuid: of this one board, as NVML writes it. bus: its place, such as
    0000:01:00.0. clock: the highest of the processors, in Hz; 0 where it does not tell.
    """

    name: str
    index: int
    capability: tuple[int, int]
    sms: int
    memory: int
    l2: int
    uuid: str
    driver: str
    cuda: tuple[int, int]
    bus: str = ""
    clock: float = 0.0

    @property
    def architecture(self) -> str:
        """As compilers name it, for instance `sm_90`."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


class Gpu(Protocol):
    """One device, used by one thread. Addresses are those of the device; sizes are bytes.

    While a stream captures, nothing runs: launches, copies and fills on it, and on streams that wait for an event
    of it, become nodes of a graph, and neither `synchronize` nor `elapsed` may be called.

    Every call can raise `DeviceLost`, after which no call of this process works, or RuntimeError.
    """

    @property
    def facts(self) -> GpuFacts: ...

    def memory_free(self) -> int:
        """Bytes that `allocate` could still give, roughly."""
        ...

    def allocate(self, size: int) -> int:
        """Address of `size` bytes, at least one.

        Raises:
            MemoryError: there are not so many.
        """
        ...

    def release(self, address: int) -> None:
        """Give back what `allocate` returned."""
        ...

    def upload(self, address: int, data: Bytes) -> None:
        """Copy from the host, now."""
        ...

    def download(self, address: int, size: int) -> Bytes:
        """Copy to the host, now."""
        ...

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy on the device."""
        ...

    def fill(self, address: int, byte: int, size: int, stream: Stream) -> None:
        """Set every byte."""
        ...

    def compile(self, source: str, options: Sequence[str], name: str) -> Kernel:
        """The `extern "C"` kernel of that name; each source is compiled once for the same options."""
        ...

    def launch(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared: int,
        arguments: Sequence[np.generic],
        stream: Stream,
    ) -> None:
        """Launch a kernel; addresses are arguments of type uint64. shared: bytes of dynamic shared memory."""
        ...

    def stream(self) -> Stream:
        """A new stream that does not wait for the default one."""
        ...

    def stream_address(self, stream: Stream) -> int:
        """The handle by which other libraries know the stream."""
        ...

    def event(self, *, timing: bool = False) -> Event:
        """A new event."""
        ...

    def record(self, event: Event, stream: Stream) -> None:
        """The event stands for all that is on the stream so far."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """What is put on the stream from now on waits for the event."""
        ...

    def elapsed(self, first: Event, last: Event) -> float:
        """Seconds between two recorded events with timing, once `synchronize` has returned."""
        ...

    def synchronize(self, stream: Stream) -> None:
        """Wait on the host until the stream is empty."""
        ...

    @property
    def capturing(self) -> bool:
        """Whether a graph is being made: whoever wants to wait for a stream has to put that off."""
        ...

    def begin_capture(self, stream: Stream) -> None:
        """Begin to make a graph instead of running."""
        ...

    def end_capture(self, stream: Stream) -> Graph:
        """The graph; every stream that joined the capture must have been waited for."""
        ...

    def abort_capture(self, stream: Stream) -> None:
        """End a capture that went wrong; never raises."""
        ...

    def launch_graph(self, graph: Graph, stream: Stream) -> None:
        """Run a graph as one thing on a stream."""
        ...

    def close(self) -> None:
        """Give everything back that the library keeps."""
        ...
