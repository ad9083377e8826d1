"""Shapes, dtypes and limits that all kernels share. Tensors of four axes are NHWC in memory, others as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.errors import GraphError, Infeasible, UsageError
from iosfarm.ir.graph import DTYPES
from iosfarm.ir.operators import ACTIVATIONS, Attributes, Shape

ELEMENTS = {"float32": "Float32", "float16": "Float16", "bfloat16": "BFloat16"}
MAX_INDEX = 2**31
_VECTOR_BYTES = 16


def check(kind: str, shapes: Sequence[Shape], dtype: str) -> None:
    """Tensors that a kernel is to read or write.

    Raises:
        UsageError: an unknown dtype. GraphError: a tensor without elements. Infeasible: one that is too large.
    """
    if dtype not in ELEMENTS:
        raise UsageError(f"unknown dtype {dtype!r}", where=kind, hint=f"use one of {', '.join(ELEMENTS)}")
    for shape in shapes:
        if not shape or min(shape) < 1:
            raise GraphError(f"a tensor of {list(shape)} has no elements", where=kind)
        fits(kind, math.prod(shape), f"a tensor of {list(shape)}")


def fits(kind: str, count: int, what: str, limit: int = MAX_INDEX) -> None:
    """What kernels count with 32 bits.

    Raises:
        Infeasible: it is too much for them.
    """
    if count >= limit:
        raise Infeasible(
            f"{what} is too large for the CUDA kernels, which index with 32 bits",
            where=kind,
            hint="use a smaller batch",
        )


def memory_shape(shape: Shape) -> Shape:
    """Lengths of the axes as they lie in memory."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def memory_order(rank: int) -> tuple[int, ...]:
    """The axes of a shape in the order in which they lie in memory."""
    return (0, 2, 3, 1) if rank == 4 else tuple(range(rank))


def memory_strides(shape: Shape) -> tuple[int, ...]:
    """Elements from one index to the next, for each axis of the shape."""
    order = memory_order(len(shape))
    sizes = [shape[axis] for axis in order]
    return tuple(math.prod(sizes[order.index(axis) + 1 :]) for axis in range(len(shape)))


def merged(axes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(size, stride) of axes, outermost first, with those made one that can be walked through as one."""
    result: list[tuple[int, int]] = []
    for size, stride in axes:
        if size == 1:
            continue
        if result and result[-1][1] == size * stride:
            result[-1] = result[-1][0] * size, stride
        else:
            result.append((size, stride))
    return result


def memory_axis(axis: int, rank: int) -> int:
    """Where an axis of the shape lies in memory; negative axes count from the end."""
    return (0, 3, 1, 2)[axis % 4] if rank == 4 else axis % rank


def around(shape: Shape, axis: int) -> tuple[int, int, int]:
    """A tensor in memory as [outer, length, inner], with an axis of its shape in the middle."""
    sizes, at = memory_shape(shape), memory_axis(axis, len(shape))
    return math.prod(sizes[:at]), sizes[at], math.prod(sizes[at + 1 :])


def vector(dtype: str, *counts: int) -> int:
    """How many elements one access can take: 16 bytes at most, and a divisor of every count."""
    return math.gcd(_VECTOR_BYTES // DTYPES[dtype], *counts)


def options(dtype: str, **constants: int) -> tuple[str, ...]:
    """Compiler options of a kernel: its element type and constants, in the order given."""
    return (f"-DELEMENT={ELEMENTS[dtype]}", *(f"-D{name}={value}" for name, value in constants.items()))


def activation_code(name: str) -> int:
    """The number of an activation in `element.cuh`."""
    return ("none", *ACTIVATIONS).index(name)


def activation_of(attributes: Attributes) -> int:
    """The number of an operator's fused activation."""
    return activation_code(str(attributes.get("activation", "none")))


def pair(attributes: Attributes, name: str) -> tuple[int, int]:
    """A (vertical, horizontal) attribute that the operator's spec has checked."""
    value = attributes[name]
    assert isinstance(value, tuple)
    return value[0], value[1]
