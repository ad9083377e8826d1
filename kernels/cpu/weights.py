"""Weights and inputs as tensors: the user's, checked, or random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from iosfarm.ir.errors import UsageError
from iosfarm.ir.operators import Shape
from iosfarm.kernels.runtime import Array

POOL = 1 << 20


class RandomTensors:
    """Fresh tensors filled from one pool of normal values, which costs a copy instead of a generation.

    Only values are shared, never memory: two tensors of a stage do not meet in a cache.
    """

    def __init__(self, seed: int = 0) -> None:
        self._pool = torch.randn(POOL, generator=torch.Generator().manual_seed(seed))
        self._position = 0

    def input(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        """Normal values, channels last."""
        return self._take(shape, 1.0, dtype)

    def parameter(self, name: str, shape: Shape, dtype: torch.dtype) -> Tensor:
        """Weights that keep the size of what they are applied to; a variance is positive."""
        if name == "running_var":
            return self._take(shape, 0.1, torch.float32).abs_().add_(0.5).to(dtype)
        fan_in = math.prod(shape[1:])
        return self._take(shape, 1 / math.sqrt(fan_in), dtype)

    def _take(self, shape: Shape, scale: float, dtype: torch.dtype) -> Tensor:
        count = math.prod(shape)
        result = torch.empty(count, dtype=dtype)
        done = 0
        while done < count:
            self._position %= POOL
            piece = min(count - done, POOL - self._position)
            torch.mul(self._pool[self._position : self._position + piece], scale, out=result[done : done + piece])
            self._position += piece
            done += piece
        if len(shape) != 4:
            return result.view(shape)
        # Filled in the order of channels last, where no element has to move.
        return result.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def tensor_of(array: Array, dtype: torch.dtype) -> Tensor:
    """A copy, channels last."""
    tensor = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if tensor.dim() == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.to(dtype)


def array_of(tensor: Tensor) -> Array:
    """A copy, NCHW, float32."""
    # clone: a float32 tensor that is already in order would otherwise share its memory with the caller.
    return tensor.to(torch.float32).clone(memory_format=torch.contiguous_format).numpy()


def given_parameters(
    expected: Mapping[str, Shape], given: Mapping[str, Array], prefix: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """An operator's weights from the user's; names in `given` begin with `prefix`.

    Raises:
        UsageError: one is missing or of another shape.
    """
    result = {}
    for name, shape in expected.items():
        array = given.get(prefix + name)
        if array is None:
            raise UsageError(f"the weight {prefix}{name} is missing")
        if tuple(array.shape) != shape:
            raise UsageError(f"the weight {prefix}{name} has the shape {list(array.shape)}, not {list(shape)}")
        result[name] = tensor_of(array, dtype)
    return result
