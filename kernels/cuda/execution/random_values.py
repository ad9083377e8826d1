"""Random weights and inputs on the device: copies of one pool, because nothing depends on their values but the power
that the device takes, and numbers that are not finite.
"""

from __future__ import annotations

import math

import numpy as np

from iosfarm.kernels.cuda.device.gpu import Gpu, Stream
from iosfarm.kernels.cuda.device.layout import encoded
from iosfarm.kernels.cuda.program.parameters import Block

POOL = 1 << 18
"""Values in the pool. Tensors begin where the one before has ended, so that few are equal."""

WEIGHT = 0.03
"""Standard deviation of weights: keeps the size of what a convolution with a thousand products reads."""


class RandomValues:
    """Normal numbers of one dtype."""

    def __init__(self, gpu: Gpu, dtype: str, seed: int = 0) -> None:
        self._gpu = gpu
        self._width = 4 if dtype == "float32" else 2
        rng = np.random.default_rng(seed)
        normal = rng.standard_normal(POOL, np.float32)
        self._pools: dict[str, int] = {}
        for name, values in (
            ("input", normal),
            ("weight", normal * np.float32(WEIGHT)),
            ("variance", np.abs(normal) + np.float32(0.5)),
        ):
            self._pools[name] = gpu.allocate(POOL * self._width)
            gpu.upload(self._pools[name], encoded(values, dtype))
        self._position = 0

    def input(self, address: int, size: int, stream: Stream) -> None:
        """Fill `size` bytes with normal numbers."""
        self._fill("input", address, size, stream)

    def parameters(self, block: Block, address: int, stream: Stream) -> None:
        """Fill a block of weights; a variance is positive."""
        for parameter in block.parameters:
            pool = "variance" if parameter.name == "running_var" else "weight"
            self._fill(pool, address + parameter.offset, math.prod(parameter.shape) * self._width, stream)

    def close(self) -> None:
        """Give the memory back."""
        for address in self._pools.values():
            self._gpu.release(address)
        self._pools.clear()

    def _fill(self, pool: str, address: int, size: int, stream: Stream) -> None:
        whole = POOL * self._width
        done = 0
        while done < size:
            piece = min(size - done, whole - self._position)
            self._gpu.copy(address + done, self._pools[pool] + self._position, piece, stream)
            done += piece
            self._position = (self._position + piece) % whole
