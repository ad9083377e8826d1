"""Launches that put elements in another order: transpose, reshape, constant."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import DTYPES
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.catalogue.launch import Arguments, Launch, Pointer, flat, integers
from iosfarm.kernels.cuda.catalogue.tensors import memory_order, memory_strides, merged, options, vector

_AXES = 6  # of permute.cu


def transpose(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """The input's axes in another order."""
    axes = attributes["axes"]
    assert isinstance(axes, tuple)
    strides = memory_strides(shape)
    return [_permute("transpose", Pointer("input0"), output, [strides[axis] for axis in axes], dtype)]


def reshape(shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """The same elements, in the order of the shape's axes, under another shape."""
    if not _images(shape) and not _images(output):
        return [_permute("reshape", Pointer("input0"), (1, math.prod(shape)), (0, 1), dtype)]
    if not _images(output):
        return [_to_order_of_axes(shape, Pointer("output"), dtype)]
    if not _images(shape):
        return [_permute("reshape", Pointer("input0"), output, _dense(output), dtype)]
    scratch = math.prod(shape) * DTYPES[dtype]
    return [
        _to_order_of_axes(shape, Pointer("scratch"), dtype, scratch),
        _permute("reshape", Pointer("scratch"), output, _dense(output), dtype, scratch=scratch),
    ]


def reshape_is_view(shape: Shape, output: Shape) -> bool:
    """Whether no element has to move."""
    return not _images(shape) and not _images(output)


def transpose_is_view(attributes: Attributes, shape: Shape, output: Shape) -> bool:
    """Whether no element has to move."""
    axes = attributes["axes"]
    assert isinstance(axes, tuple)
    strides = memory_strides(shape)
    order = memory_order(len(output))
    return len(merged([(output[axis], strides[axes[axis]]) for axis in order])) <= 1


def constant(shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """A parameter, which lies in the order of its own axes, once for each item of the batch."""
    return [_permute("constant", Pointer("value"), output, (0, *_dense(output[1:])), dtype)]


def _images(shape: Shape) -> bool:
    """Whether memory has another order than the axes."""
    return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1


def _dense(shape: Shape) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _to_order_of_axes(shape: Shape, target: Pointer, dtype: str, scratch: int = 0) -> Launch:
    # As a shape of three axes, which memory has in their order.
    batch, channels, height, width = shape
    strides = (height * width * channels, 1, channels)
    flat_shape = (batch, channels, height * width)
    return _permute("reshape", Pointer("input0"), flat_shape, strides, dtype, target=target, scratch=scratch)


def _permute(
    kind: str,
    source: Pointer,
    output: Shape,
    strides: Sequence[int],
    dtype: str,
    *,
    target: Pointer = Pointer("output"),  # noqa: B008 - immutable
    scratch: int = 0,
) -> Launch:
    """strides: of the input, for each axis of the output's shape."""
    axes = merged([(output[axis], strides[axis]) for axis in memory_order(len(output))]) or [(1, 1)]
    if len(axes) > _AXES:
        raise Infeasible(f"no CUDA kernel to put {len(axes)} axes in another order", where=kind)
    axes = [(1, 0)] * (_AXES - len(axes)) + axes
    others = [stride for size, stride in axes[:-1] if size > 1]
    width = vector(dtype, axes[-1][0], *others) if axes[-1][1] == 1 else 1
    count = math.prod(output)
    grid, block = flat(count // width)
    sizes, steps = [size for size, _ in axes[1:]], [stride for _, stride in axes]
    arguments: Arguments = (source, target, *integers(count, *sizes, *steps))
    constants = options(dtype, VECTOR=width)
    return Launch("permute", "permute.cu", constants, grid, block, arguments, scratch_bytes=scratch)
