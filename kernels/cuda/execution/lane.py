"""The streams of one runtime, with the library handles that work on them."""

from __future__ import annotations

from contextlib import suppress

from iosfarm.kernels.cuda.device.gpu import Gpu, Stream


class RuntimeLane:
    """See `Lane`."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._stream = gpu.stream()
        self._handle: int | None = None

    @property
    def stream(self) -> Stream:
        """See `Lane`."""
        return self._stream

    @property
    def cudnn(self) -> int:
        """See `Lane`."""
        if self._handle is None:
            from iosfarm.kernels.cuda.providers import cudnn_graph

            self._handle = cudnn_graph.create_handle()
            cudnn_graph.set_stream(self._handle, self._gpu.stream_address(self._stream))
        return self._handle

    def close(self) -> None:
        """Give the handle back."""
        if self._handle is not None:
            from iosfarm.kernels.cuda.providers import cudnn_graph

            with suppress(Exception):  # after a lost device nothing can be given back
                cudnn_graph.destroy_handle(self._handle)
            self._handle = None


class Lanes:
    """As many lanes as the widest program needs; the first is where everything begins and ends."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._lanes = [RuntimeLane(gpu)]

    @property
    def home(self) -> RuntimeLane:
        """The first."""
        return self._lanes[0]

    def take(self, count: int) -> list[RuntimeLane]:
        """The first `count`."""
        while len(self._lanes) < count:
            self._lanes.append(RuntimeLane(self._gpu))
        return self._lanes[:count]

    def close(self) -> None:
        """Give everything back."""
        for lane in self._lanes:
            lane.close()
