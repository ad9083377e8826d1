"""`Gpu` by CuPy. The only file that imports it: streams, events, graph capture, memory, NVRTC."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import cupy
import numpy as np
from cupy.cuda import driver, runtime

from iosfarm.ir.errors import DeviceLost
from iosfarm.kernels.cuda.device.errors import INVALID_DEVICE, translated
from iosfarm.kernels.cuda.device.gpu import Bytes, Event, GpuFacts, Graph, Kernel, Stream
from iosfarm.kernels.cuda.device.nvml import driver_version, uuid

DEFAULT_SHARED = 48 * 1024
"""Bytes of dynamic shared memory that a kernel gets without asking for more."""

STANDARD = "-std=c++17"
"""CuPy's default is older than the kernels' C++."""

CLOCK_RATE = 13
"""cudaDevAttrClockRate, in kHz."""

_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3  # cudaMemcpyKind


class CupyGpu:
    """See `Gpu`. Makes a context on the device `index`.

    Raises:
        DeviceLost: it does not exist, or is taken.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        with _translating():
            try:
                runtime.setDevice(index)
                properties = runtime.getDeviceProperties(index)
            except runtime.CUDARuntimeError as error:
                if error.status == INVALID_DEVICE:
                    raise DeviceLost(f"there is no GPU {index} any more") from error
                raise
            number, bus = runtime.runtimeGetVersion(), runtime.deviceGetPCIBusId(index)
            self._facts = GpuFacts(
                name=properties["name"].decode(),
                index=index,
                capability=(properties["major"], properties["minor"]),
                sms=properties["multiProcessorCount"],
                memory=properties["totalGlobalMem"],
                l2=properties["l2CacheSize"],
                # Not the properties' own: CuPy cuts that off at its first zero byte.
                uuid=uuid(bus, index),
                driver=_driver_version(runtime.driverGetVersion()),
                cuda=(number // 1000, number % 1000 // 10),
                bus=bus,
                # An attribute: CUDA 13 has no such property any more.
                clock=runtime.deviceGetAttribute(CLOCK_RATE, index) * 1e3,
            )
            self._pool = cupy.cuda.MemoryPool()
            self._transfers = cupy.cuda.Stream(non_blocking=True)
        self._capturing = False
        self._memory: dict[int, Any] = {}
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._kernels: dict[tuple[str, tuple[str, ...], str], Any] = {}

    @property
    def facts(self) -> GpuFacts:
        return self._facts

    def memory_free(self) -> int:
        with self._calling():
            free, _ = runtime.memGetInfo()
            return int(free) + int(self._pool.free_bytes())

    def allocate(self, size: int) -> int:
        with self._calling():
            try:
                pointer = self._pool.malloc(max(1, size))
            except cupy.cuda.memory.OutOfMemoryError as error:
                raise MemoryError(f"the GPU has no {size / 2**20:.0f} MiB free now") from error
        self._memory[int(pointer.ptr)] = pointer
        return int(pointer.ptr)

    def release(self, address: int) -> None:
        del self._memory[address]

    def upload(self, address: int, data: Bytes) -> None:
        data = np.ascontiguousarray(data)
        with self._calling():
            # Not the plain copy: that may return before what it has staged is on the device, and our streams, which do
            # not wait for the default one, could then read what was there before.
            runtime.memcpyAsync(address, data.ctypes.data, data.nbytes, _TO_DEVICE, self._transfers.ptr)
            self._transfers.synchronize()

    def download(self, address: int, size: int) -> Bytes:
        result = np.empty(size, np.uint8)
        with self._calling():
            runtime.memcpyAsync(result.ctypes.data, address, size, _TO_HOST, self._transfers.ptr)
            self._transfers.synchronize()
        return result

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        with self._calling():
            runtime.memcpyAsync(target, source, size, _ON_DEVICE, _pointer(stream))

    def fill(self, address: int, byte: int, size: int, stream: Stream) -> None:
        with self._calling():
            runtime.memsetAsync(address, byte, size, _pointer(stream))

    def compile(self, source: str, options: Sequence[str], name: str) -> Kernel:
        settings = (STANDARD, *options)
        key = (source, settings, name)
        if key not in self._kernels:
            with self._calling():
                module = self._modules.get(key[:2])
                if module is None:
                    module = self._modules[key[:2]] = cupy.RawModule(code=source, options=settings, backend="nvrtc")
                self._kernels[key] = module.get_function(name)
                self._kernels[key].compile()
        return Kernel(self._kernels[key])

    def launch(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared: int,
        arguments: Sequence[np.generic],
        stream: Stream,
    ) -> None:
        raw: Any = kernel
        # The driver copies the arguments while it is called, so they need to live no longer.
        cells = [np.array(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * max(1, len(cells)))(*(cell.ctypes.data for cell in cells))
        with self._calling():
            if shared > DEFAULT_SHARED and raw.max_dynamic_shared_size_bytes < shared:
                raw.max_dynamic_shared_size_bytes = shared
            driver.launchKernel(
                raw.kernel.ptr, *grid, *block, shared, _pointer(stream), ctypes.addressof(pointers), 0
            )  # fmt: skip

    def stream(self) -> Stream:
        with self._calling():
            return Stream(cupy.cuda.Stream(non_blocking=True))

    def stream_address(self, stream: Stream) -> int:
        return _pointer(stream)

    def event(self, *, timing: bool = False) -> Event:
        with self._calling():
            return Event(cupy.cuda.Event(disable_timing=not timing))

    def record(self, event: Event, stream: Stream) -> None:
        with self._calling():
            _any(event).record(_any(stream))

    def wait(self, stream: Stream, event: Event) -> None:
        with self._calling():
            _any(stream).wait_event(_any(event))

    def elapsed(self, first: Event, last: Event) -> float:
        with self._calling():
            return float(cupy.cuda.get_elapsed_time(first, last)) * 1e-3  # CUDA has milliseconds

    def synchronize(self, stream: Stream) -> None:
        with self._calling():
            _any(stream).synchronize()

    @property
    def capturing(self) -> bool:
        return self._capturing

    def begin_capture(self, stream: Stream) -> None:
        with self._calling():
            # Relaxed, CuPy's default: cuDNN may allocate for itself at a plan's first execution.
            _any(stream).begin_capture()
            self._capturing = True

    def end_capture(self, stream: Stream) -> Graph:
        with self._calling():
            graph = _any(stream).end_capture()
            self._capturing = False
            return Graph(graph)

    def abort_capture(self, stream: Stream) -> None:
        self._capturing = False
        # The graph that comes of it, if one does, is dropped; a broken capture ends with an error of its own.
        with suppress(Exception), self._calling():
            _any(stream).end_capture()

    def launch_graph(self, graph: Graph, stream: Stream) -> None:
        with self._calling():
            _any(graph).launch(_any(stream))

    def close(self) -> None:
        self._kernels.clear()
        self._modules.clear()
        self._memory.clear()
        with suppress(Exception), self._calling():  # after a lost device nothing can be given back
            self._pool.free_all_blocks()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """CUDA has a current device for each thread, the first one unless it is told: whoever calls may be another
        thread than the one that made this, and other libraries set it, too.
        """
        with _translating():
            runtime.setDevice(self._index)
            yield


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (runtime.CUDARuntimeError, driver.CUDADriverError) as error:
        raise translated(error) from error


def _any(handle: object) -> Any:
    return handle


def _pointer(stream: Stream) -> int:
    return int(_any(stream).ptr)


def _driver_version(number: int) -> str:
    """NVIDIA's own number, such as 580.95, from NVML; the CUDA version that the driver runs where NVML is missing."""
    return driver_version() or f"CUDA {number // 1000}.{number % 1000 // 10}"
