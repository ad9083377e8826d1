"""A `Gpu` that runs on the host, as lazily and as freely as a real one may.

What is put on streams runs at `synchronize` and not before, in a random order that the streams, events and graph edges
allow. Kernels are the catalogue's own, through the shim. Memory is poisoned, guarded, and checked when it is released.
What CUDA forbids while a stream captures is an error here too.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from host_kernels import POISON, Buffer, HostError
from host_kernels import _library as compiled

from iosfarm.kernels.cuda.device.gpu import Bytes, Event, GpuFacts, Graph, Kernel, Stream

FACTS = GpuFacts("Host", 0, (9, 0), 4, 2**26, 2**20, "00" * 16, "1.2", (13, 0))


@dataclass
class _Node:
    """Something to run, once all of `after` have."""

    work: Callable[[], None]
    after: frozenset[int]


@dataclass
class _Capture:
    origin: _Stream
    nodes: dict[int, _Node] = field(default_factory=dict)
    streams: list[_Stream] = field(default_factory=list)


@dataclass(eq=False)
class _Stream:
    """tail: nodes that what comes next has to wait for. outside: the same, while a capture goes on."""

    tail: frozenset[int] = frozenset()
    capture: _Capture | None = None
    outside: frozenset[int] = frozenset()


@dataclass(eq=False)
class _Event:
    timing: bool
    tail: frozenset[int] | None = None
    capture: _Capture | None = None
    when: float | None = None


class HostGpu:
    """See `Gpu`. seed: of the order in which things run. tick: seconds that a kernel takes, as events see it."""

    def __init__(self, seed: int = 0, *, tick: float = 1e-3, facts: GpuFacts = FACTS) -> None:
        self._facts = facts
        self._random = random.Random(seed)
        self._tick = tick
        self._clock = 0.0
        self._count = 0
        self._waiting: dict[int, _Node] = {}
        self._done: set[int] = set()
        self._buffers: dict[int, tuple[Buffer, int]] = {}
        self._released: list[tuple[Buffer, int]] = []
        self.streams: dict[int, Stream] = {}
        """By what `stream_address` says: other libraries find them here."""
        self.launched: list[str] = []
        """Names of the kernels that have run, in order."""
        self.broken: Exception | None = None
        """Raised by every call from now on, as a real device does after an illegal access."""

    @property
    def facts(self) -> GpuFacts:
        return self._facts

    @property
    def in_use(self) -> int:
        """Bytes that were allocated and not released."""
        return sum(size for _, size in self._buffers.values())

    def memory_free(self) -> int:
        return self._facts.memory - self.in_use

    # -- memory --------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        self._check()
        if size > self.memory_free():
            raise MemoryError(f"the GPU has no {size} bytes free")
        buffer = Buffer(size)
        self._buffers[buffer.address] = buffer, size
        return buffer.address

    def release(self, address: int) -> None:
        buffer, size = self._buffers.pop(address)
        buffer.check("a buffer")
        ctypes.memset(address, POISON, size)
        self._released.append((buffer, size))

    def upload(self, address: int, data: Bytes) -> None:
        self._check()
        self.check_inside(address, data.nbytes)
        ctypes.memmove(address, np.ascontiguousarray(data).ctypes.data, data.nbytes)

    def download(self, address: int, size: int) -> Bytes:
        self._check()
        self.check_inside(address, size)
        return np.frombuffer(ctypes.string_at(address, size), np.uint8).copy()

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        self.check_inside(target, size)
        self.check_inside(source, size)
        self.put(stream, lambda: ctypes.memmove(target, source, size))

    def fill(self, address: int, byte: int, size: int, stream: Stream) -> None:
        self.check_inside(address, size)
        self.put(stream, lambda: ctypes.memset(address, byte, size))

    def check_inside(self, address: int, size: int) -> None:
        if not any(
            start <= address and address + size <= start + length for start, (_, length) in self._buffers.items()
        ):
            raise HostError(f"{size} bytes at {address:#x} are in no buffer")

    # -- kernels -------------------------------------------------------------------------------------------------

    def compile(self, source: str, options: Sequence[str], name: str) -> Kernel:
        self._check()
        return Kernel((name, compiled(name, source, tuple(options))))

    def launch(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared: int,
        arguments: Sequence[np.generic],
        stream: Stream,
    ) -> None:
        name, library = _any(kernel)
        cells = [np.array(argument) for argument in arguments]
        if len(cells) != library.shim_parameters():
            raise HostError(f"{name} takes {library.shim_parameters()} arguments, not {len(cells)}")

        def run() -> None:
            pointers = (ctypes.c_void_p * len(cells))(*[cell.ctypes.data for cell in cells])
            triple = ctypes.c_uint * 3
            error = library.shim_run(triple(*grid), triple(*block), pointers, self._random.randrange(2**31))
            if error:
                raise HostError(f"{name}: {error.decode()}")
            self.launched.append(name)
            self._clock += self._tick

        self.put(stream, run)

    # -- streams and events --------------------------------------------------------------------------------------

    def stream(self) -> Stream:
        made = Stream(_Stream())
        self.streams[id(made)] = made
        return made

    def stream_address(self, stream: Stream) -> int:
        return id(stream)

    def event(self, *, timing: bool = False) -> Event:
        return Event(_Event(timing))

    def record(self, event: Event, stream: Stream) -> None:
        self._check()
        one, lane = _any(event), _any(stream)
        if one.timing and lane.capture is None:

            def now() -> None:
                self._clock += 1e-7
                one.when = self._clock

            self.put(stream, now)
        one.tail, one.capture = lane.tail, lane.capture

    def wait(self, stream: Stream, event: Event) -> None:
        self._check()
        one, lane = _any(event), _any(stream)
        if one.tail is None:
            return  # an event that was never recorded holds nobody up
        if one.capture is None and lane.capture is not None:
            raise HostError("a capturing stream waits for an event from outside of the capture")
        if one.capture is not None and lane.capture is None:
            lane.capture, lane.outside, lane.tail = one.capture, lane.tail, frozenset()
            one.capture.streams.append(lane)
        if one.capture is not lane.capture:
            raise HostError("two captures meet")
        lane.tail |= one.tail

    def elapsed(self, first: Event, last: Event) -> float:
        begin, end = _any(first).when, _any(last).when
        if begin is None or end is None:
            raise HostError("an event has not happened yet")
        return float(end - begin)

    def synchronize(self, stream: Stream) -> None:
        self._check()
        lane = _any(stream)
        if lane.capture is not None:
            raise HostError("synchronize while the stream captures")
        needed = _closure(lane.tail, self._waiting)
        # What others wait for may run by the way.
        also = [n for n in self._waiting if n not in needed and self._random.random() < 0.3]
        for number in also:
            needed |= _closure(frozenset({number}), self._waiting)
        self._run({number: self._waiting.pop(number) for number in sorted(needed)}, self._done)

    # -- graphs --------------------------------------------------------------------------------------------------

    @property
    def capturing(self) -> bool:
        return any(_any(stream).capture is not None for stream in self.streams.values())

    def begin_capture(self, stream: Stream) -> None:
        self._check()
        lane = _any(stream)
        if lane.capture is not None:
            raise HostError("the stream captures already")
        lane.capture, lane.outside, lane.tail = _Capture(lane), lane.tail, frozenset()
        lane.capture.streams.append(lane)

    def end_capture(self, stream: Stream) -> Graph:
        capture = self._leave(stream)
        return Graph(capture.nodes)

    def abort_capture(self, stream: Stream) -> None:
        lane = _any(stream)
        if lane.capture is not None:
            for other in lane.capture.streams:
                other.capture, other.tail = None, other.outside

    def launch_graph(self, graph: Graph, stream: Stream) -> None:
        nodes = dict(_any(graph))
        self.put(stream, lambda: self._run(dict(nodes), set()))

    def close(self) -> None:
        for buffer, size in self._released:
            if (buffer.content != POISON).any():
                raise HostError(f"{size} bytes were written to after they had been released")

    # ------------------------------------------------------------------------------------------------------------

    def _leave(self, stream: Stream) -> _Capture:
        lane = _any(stream)
        capture = lane.capture
        if capture is None or capture.origin is not lane:
            raise HostError("the stream did not begin this capture")
        joined = _closure(lane.tail, capture.nodes)
        tails = [other.tail for other in capture.streams]
        self.abort_capture(stream)
        if any(tail - joined for tail in tails):
            raise HostError("a stream has not joined the one that began the capture")
        return capture

    def put(self, stream: Stream, work: Callable[[], object]) -> None:
        self._check()
        lane = _any(stream)
        self._count += 1
        node = _Node(lambda: (work(), None)[1], lane.tail)
        (self._waiting if lane.capture is None else lane.capture.nodes)[self._count] = node
        lane.tail = frozenset({self._count})

    def _run(self, nodes: dict[int, _Node], done: set[int]) -> None:
        """In a random order in which every node comes after those that it waits for."""
        while nodes:
            ready = [number for number, node in nodes.items() if not any(n in nodes for n in node.after)]
            number = self._random.choice(ready)
            nodes.pop(number).work()
            done.add(number)

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken


def _closure(tail: frozenset[int], nodes: dict[int, _Node]) -> set[int]:
    """A set of nodes and all that they wait for, as far as it is among `nodes`."""
    found: set[int] = set()
    left = [number for number in tail if number in nodes]
    while left:
        number = left.pop()
        if number not in found:
            found.add(number)
            left += [n for n in nodes[number].after if n in nodes]
    return found


def _any(handle: object) -> Any:
    return handle
