"""Takes the place of `cupy` where there is no GPU: the few calls that `cupy_gpu` makes, carried out by `HostGpu`.

Two devices, and CUDA's rule about them: each thread has a current device, the first unless it is set, and what is used
while another one is current is an error. Signatures are those of CuPy 14.2.
"""

from __future__ import annotations

import ctypes
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from host_gpu import HostGpu

devices: list[HostGpu] = []
_thread = threading.local()
_handles: dict[int, Any] = {}
calls: list[str] = []
"""Names of the calls so far."""


def reset() -> None:
    """Two new devices."""
    devices[:] = [HostGpu(seed=0), HostGpu(seed=1)]
    _handles.clear()
    calls.clear()
    _thread.index = 0


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"error {status}")
        self.status = status


class CUDADriverError(CUDARuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def _current() -> HostGpu:
    return devices[getattr(_thread, "index", 0)]


def _own(handle: Any) -> Any:
    """A handle's object, if it is of the current device."""
    if handle.gpu is not _current():
        raise CUDARuntimeError(400)  # invalid resource handle
    return handle.inner


def _set(index: int) -> None:
    if not 0 <= index < len(devices):
        raise CUDARuntimeError(101)
    _thread.index = index


def _stream(address: int) -> Any:
    return _own(_handles[address])


def _copy(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    gpu = _current()
    for address, on_device in ((dst, kind in (1, 3)), (src, kind in (2, 3))):
        if on_device:
            gpu.check_inside(address, size)
    gpu.put(_stream(stream), lambda: ctypes.memmove(dst, src, size))


def _launch(
    f: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int, stream: int, params: int, extra: int
) -> None:
    calls.append("launchKernel")
    if getattr(_thread, "index", None) is None:
        raise CUDADriverError(201)  # the driver makes no context by itself
    assert extra == 0
    kernel = _own(_handles[f])
    _, library = kernel
    places = (ctypes.c_void_p * library.shim_parameters()).from_address(params)
    # As the driver does: what the arguments are is read now, not when the kernel runs.
    arguments = [np.frombuffer(ctypes.string_at(place, 8), np.uint64)[0] for place in places]
    _current().launch(kernel, (gx, gy, gz), (bx, by, bz), shared, arguments, _stream(stream))


class _Handle:
    def __init__(self, inner: Any) -> None:
        self.gpu, self.inner = _current(), inner
        self.ptr = id(self)
        _handles[self.ptr] = self


class Stream(_Handle):
    def __init__(self, *, non_blocking: bool = False) -> None:
        assert non_blocking
        super().__init__(_current().stream())

    def synchronize(self) -> None:
        _current().synchronize(_own(self))

    def wait_event(self, event: Event) -> None:
        _current().wait(_own(self), _own(event))

    def begin_capture(self, mode: int | None = None) -> None:
        _current().begin_capture(_own(self))

    def end_capture(self) -> Graph:
        return Graph(_current().end_capture(_own(self)))


class Graph(_Handle):
    def launch(self, stream: Stream | None = None) -> None:
        assert stream is not None
        _current().launch_graph(_own(self), _own(stream))


class Event(_Handle):
    def __init__(self, *, disable_timing: bool = False) -> None:
        super().__init__(_current().event(timing=not disable_timing))

    def record(self, stream: Stream | None = None) -> None:
        assert stream is not None
        _current().record(_own(self), _own(stream))


class MemoryPool:
    def malloc(self, size: int) -> Any:
        gpu = _current()
        try:
            address = gpu.allocate(size)
        except MemoryError:
            raise OutOfMemoryError from None
        pointer = _Pointer()
        pointer.ptr, pointer.gpu = address, gpu
        return pointer

    def free_bytes(self) -> int:
        return 0

    def free_all_blocks(self, stream: object = None) -> None:
        pass


class _Pointer:
    ptr = 0
    gpu: Any = None

    def __del__(self) -> None:
        self.gpu.release(self.ptr)


class RawModule:
    def __init__(self, *, code: str, options: tuple[str, ...], backend: str) -> None:
        assert backend == "nvrtc"
        assert "-std=c++17" in options
        self._code, self._options = code, tuple(o for o in options if o != "-std=c++17")

    def get_function(self, name: str) -> Any:
        function = _Handle(_current().compile(self._code, self._options, name))
        return SimpleNamespace(compile=lambda: None, kernel=function, max_dynamic_shared_size_bytes=48 * 1024)


def _properties(index: int) -> dict[str, Any]:
    return {
        "name": f"Host {index}".encode(), "major": 9, "minor": 0, "multiProcessorCount": 4, "totalGlobalMem": 2**26,
        "l2CacheSize": 2**20,
    }  # fmt: skip


def _elapsed(first: Event, last: Event) -> float:
    return 1e3 * _current().elapsed(_own(first), _own(last))


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    setDevice=_set,
    getDeviceProperties=_properties,
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13010,
    deviceGetPCIBusId=lambda index: f"0000:0{index + 1}:00.0",
    deviceGetAttribute=lambda attribute, index: {13: 1980000}[attribute],
    memGetInfo=lambda: (_current().memory_free(), 2**26),
    memcpyAsync=_copy,
    memsetAsync=lambda ptr, value, size, stream: _current().fill(ptr, value, size, _stream(stream)),
)
driver = SimpleNamespace(CUDADriverError=CUDADriverError, launchKernel=_launch)
cuda = SimpleNamespace(
    runtime=runtime,
    driver=driver,
    MemoryPool=MemoryPool,
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    Stream=Stream,
    Event=Event,
    get_elapsed_time=_elapsed,
)
