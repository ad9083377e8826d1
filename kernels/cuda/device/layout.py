"""Between tensors on the host (NCHW, float32) and in the GPU's memory (dense NHWC, in the stage's dtype)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.operators import Shape
from iosfarm.kernels.cuda.device.gpu import Bytes
from iosfarm.kernels.runtime import Array


def to_device(array: Array, dtype: str) -> Bytes:
    """The bytes of a tensor as they lie on the device. One of four dimensions becomes NHWC."""
    values = np.asarray(array, np.float32)
    if values.ndim == 4:
        values = values.transpose(0, 2, 3, 1)
    return encoded(np.ascontiguousarray(values), dtype)


def from_device(data: Bytes, shape: Shape, dtype: str) -> Array:
    """The inverse: float32, NCHW. shape: as the graph has it."""
    values = decoded(data, dtype)
    if len(shape) != 4:
        return values.reshape(shape)
    batch, channels, height, width = shape
    return np.ascontiguousarray(values.reshape(batch, height, width, channels).transpose(0, 3, 1, 2))


def encoded(values: NDArray[np.float32], dtype: str) -> Bytes:
    """float32 numbers as bytes of another dtype, rounded to nearest, ties to even."""
    if dtype == "float32":
        return values.reshape(-1).view(np.uint8)
    if dtype == "float16":
        with np.errstate(over="ignore"):  # too large for float16 is infinity, as on the device
            return values.reshape(-1).astype(np.float16).view(np.uint8)
    # bfloat16 is the upper half of a float32.
    bits = values.reshape(-1).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values.reshape(-1)), np.uint32(0x7FFF), rounded).astype(np.uint16).view(np.uint8)


def decoded(data: Bytes, dtype: str) -> NDArray[np.float32]:
    """Bytes of a dtype as float32 numbers."""
    if dtype == "float32":
        return data.view(np.float32).copy()
    if dtype == "float16":
        return data.view(np.float16).astype(np.float32)
    return (data.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
