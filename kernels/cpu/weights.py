"""Weights and inputs as tensors: the user's, checked, or random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from iosfarm.ir.operators import Shape
from iosfarm.kernels.given import given_parameters
from iosfarm.kernels.runtime import Array

POOL = 1 << 20
"""Normal values that are generated; the arena repeats them."""

ARENA = 1 << 24
"""Elements of the arena: 64 MiB in float32, more than any cache keeps between two uses of one place."""

ALIGNED = 64
"""Elements that a tensor's beginning is a multiple of: 128 bytes and more, as the allocator would place it."""

SPREAD = 0.05
"""Standard deviation of every value: a convolution of 400 inputs keeps the size of what it is applied to. What a
stage takes does not depend on its numbers, as long as none is denormal, infinite or NaN."""


class RandomTensors:
    """Tensors of normal values, at the cost of neither a generation nor a copy: each is the next piece of one arena.

    Two tensors of a stage do not overlap, unless they are more than the arena together. They are for reading only.
    """

    def __init__(self, seed: int = 0) -> None:
        self._pool = torch.randn(POOL, generator=torch.Generator().manual_seed(seed)).mul_(SPREAD)
        self._arenas: dict[torch.dtype, Tensor] = {}
        self._position = 0

    def input(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        """Normal values, channels last."""
        return self._take(shape, dtype)

    def parameter(self, name: str, shape: Shape, dtype: torch.dtype) -> Tensor:
        """Normal values; a variance is positive, and memory of its own."""
        if name == "running_var":
            return self._take(shape, torch.float32).abs().add_(0.5).to(dtype)
        return self._take(shape, dtype)

    def _take(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        count = math.prod(shape)
        values = self._piece(count, dtype) if count <= ARENA else self._pool.repeat(-(-count // POOL))[:count].to(dtype)
        if len(shape) != 4:
            return values.view(shape)
        # In the order of channels last, where no element has to move.
        return values.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)

    def _piece(self, count: int, dtype: torch.dtype) -> Tensor:
        if dtype not in self._arenas:
            self._arenas[dtype] = self._pool.to(dtype).repeat(ARENA // POOL)
        first = -(-self._position // ALIGNED) * ALIGNED
        if first + count > ARENA:
            first = 0
        self._position = first + count
        return self._arenas[dtype][first : first + count]


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


def given_tensors(
    expected: Mapping[str, Shape], given: Mapping[str, Array], prefix: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """See `given_parameters`; as tensors of their own."""
    return {name: tensor_of(array, dtype) for name, array in given_parameters(expected, given, prefix).items()}
