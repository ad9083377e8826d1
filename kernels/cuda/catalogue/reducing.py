"""Launches of what looks along axes: reduce, layer norm, group norm, local response norm."""

from __future__ import annotations

import math

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.ir.operators.reducing import REDUCTIONS
from iosfarm.kernels.cuda.catalogue.launch import Arguments, Launch, Pointer, Scalar, flat, integers
from iosfarm.kernels.cuda.catalogue.tensors import activation_of, memory_order, memory_strides, merged, options

_AXES = 4  # on each side of reduce.cu
_THREADS = 256


def reduce(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """One number for all that is along some axes."""
    axes = attributes["axes"]
    assert isinstance(axes, tuple)
    gone = {axis % len(shape) for axis in axes}
    strides = memory_strides(shape)
    # The axes of the output as they lie in memory, each by the input's axis that it comes from.
    sources = list(range(len(shape))) if attributes["keepdims"] else [a for a in range(len(shape)) if a not in gone]
    kept = [sources[axis] for axis in memory_order(len(output)) if sources[axis] not in gone]
    taken = [axis for axis in memory_order(len(shape)) if axis in gone]
    outside = merged([(shape[axis], strides[axis]) for axis in kept])
    inside = merged([(shape[axis], strides[axis]) for axis in taken])
    if max(len(outside), len(inside)) > _AXES:
        raise Infeasible(f"no CUDA kernel to reduce {list(shape)} along {list(axes)}", where="reduce")
    neighbours = bool(outside) and outside[-1][1] == 1
    block = (32, _THREADS // 32, 1) if neighbours else (1, _THREADS, 1)
    outputs, length = math.prod(output), math.prod(shape) // math.prod(output)
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("output")),
        *integers(outputs, length, *_sizes_and_strides(outside), *_sizes_and_strides(inside)),
    )
    constants = options(dtype, FUNCTION=REDUCTIONS.index(str(attributes["function"])))
    return [Launch("reduce", "reduce.cu", constants, (-(-outputs // block[0]), 1, 1), block, arguments)]


def _sizes_and_strides(axes: list[tuple[int, int]]) -> list[int]:
    full = [(1, 0)] * (_AXES - len(axes)) + axes
    return [*(size for size, _ in full[1:]), *(stride for _, stride in full)]


def layer_norm(attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """Along the last axes of the shape, wherever memory has them."""
    normal = attributes["shape"]
    assert isinstance(normal, tuple)
    count = math.prod(normal)
    groups = math.prod(shape) // count
    if len(shape) != 4:
        # (groups that differ within an outer one, pitches, rows, columns, strides, strides of the weights)
        return [_normalise(attributes, groups, (1, count, 0, 1, count, 0, 1, 0, 0, 1), dtype)]
    _, channels, height, width = shape
    image = channels * height * width
    if len(normal) == 3:
        geometry = (1, image, 0, height * width, channels, channels, 1, 0, 1, height * width)
    elif len(normal) == 2:
        geometry = (channels, image, 1, 1, height * width, 0, channels, 0, 0, 1)
    else:
        geometry = (channels, width * channels, 1, 1, width, 0, channels, 0, 0, 1)
    return [_normalise(attributes, groups, geometry, dtype)]


def group_norm(attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """All that belongs to a group of channels of an item."""
    groups, channels, rest = int(attributes["groups"]), shape[1], math.prod(shape[2:])  # type: ignore[arg-type]
    each = channels // groups
    if len(shape) == 4:
        geometry = (groups, channels * rest, each, rest, each, channels, 1, each, 0, 1)
    else:
        geometry = (groups, channels * rest, each * rest, each, rest, rest, 1, each, 1, 0)
    return [_normalise(attributes, shape[0] * groups, geometry, dtype)]


def _normalise(attributes: Attributes, groups: int, geometry: tuple[int, ...], dtype: str) -> Launch:
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("weight"), Pointer("bias"), Pointer("output")),
        *integers(*geometry),
        Scalar(float(attributes["eps"]), "float32"),  # type: ignore[arg-type]
    )
    count = geometry[3] * geometry[4]
    block = min(_THREADS, -(-count // 32) * 32)
    constants = options(dtype, ACTIVATION=activation_of(attributes))
    return Launch("normalise", "normalise.cu", constants, (groups, 1, 1), (block, 1, 1), arguments)


def local_response_norm(attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """By the channels around each."""
    count = math.prod(shape)
    grid, block = flat(count)
    numbers = [Scalar(float(attributes[name]), "float32") for name in ("alpha", "beta", "k")]  # type: ignore[arg-type]
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("output")),
        *integers(count, shape[1], int(attributes["size"])),  # type: ignore[arg-type]
        *numbers,
    )
    return [Launch("response_norm", "response_norm.cu", options(dtype), grid, block, arguments)]
