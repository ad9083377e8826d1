"""Launches of pooling."""

from __future__ import annotations

import math

from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.catalogue.launch import Arguments, Launch, Pointer, flat, integers
from iosfarm.kernels.cuda.catalogue.part import Part, target
from iosfarm.kernels.cuda.catalogue.tensors import fits, options, pair, vector

_UNSIGNED = 2**32
_COLUMNS, _ROWS = 8, 32  # of global_pool.cu

FIXED_WINDOWS = ((3, 1), (3, 2), (2, 2))
"""(width, stride) of pools that have loops of constant length."""

STRIP = 4
"""Neighbouring outputs of one thread, where there is enough to do for all."""

ENOUGH_THREADS = 1 << 16
"""With fewer, a large GPU has idle multiprocessors, which costs more than loading a column once for each output."""


def strip_constants(fixed: bool, kernel_w: int, stride_w: int, threads: int) -> dict[str, int]:
    """Constants of `window.cuh`; threads: how many there are with one output each."""
    if not fixed:
        return {"KERNEL_W": 0, "STRIDE_W": 0, "STRIP": 1}
    return {"KERNEL_W": kernel_w, "STRIDE_W": stride_w, "STRIP": STRIP if threads >= STRIP * ENOUGH_THREADS else 1}


def pool(
    kind: str, attributes: Attributes, shape: Shape, output: Shape, dtype: str, part: Part | None = None
) -> list[Launch]:
    """Max or average over windows."""
    batch, channels, height, width = shape
    kernel, stride = pair(attributes, "kernel"), pair(attributes, "stride")
    fits(kind, math.prod(kernel), f"a window of {kernel[0]}x{kernel[1]}")
    to = target(part, channels, dtype)
    count = vector(dtype, channels, *to.counts)
    fixed = (kernel[1], stride[1]) in FIXED_WINDOWS
    constants = strip_constants(fixed, kernel[1], stride[1], math.prod(output) // count)
    grid, block = flat(batch * output[2] * -(-output[3] // constants["STRIP"]) * channels // count)
    arguments: Arguments = (
        *(Pointer("input0"), to.pointer),
        *integers(batch, height, width, channels, *output[2:], *kernel, *stride, *pair(attributes, "padding")),
        *integers(int(bool(attributes.get("count_include_pad", False))), to.pitch),
    )
    defines = options(dtype, VECTOR=count, MAXIMUM=int(kind == "max_pool"), **constants)
    return [Launch("pool", "pool.cu", defines, grid, block, arguments)]


def adaptive_pool(kind: str, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """Windows that share the input out evenly; one output pixel is a global pool."""
    if output[2:] == (1, 1):
        return global_pool(kind, shape, dtype)
    batch, channels, height, width = shape
    for before, after in zip(shape[2:], output[2:], strict=True):
        fits(kind, (after + 1) * before + after, f"{before} pixels to {after}", _UNSIGNED)
    count = vector(dtype, channels)
    grid, block = flat(math.prod(output) // count)
    arguments: Arguments = (
        Pointer("input0"),
        Pointer("output"),
        *integers(batch, height, width, channels, *output[2:]),
    )
    defines = options(dtype, VECTOR=count, MAXIMUM=int("max" in kind))
    return [Launch("adaptive_pool", "adaptive_pool.cu", defines, grid, block, arguments)]


def global_pool(kind: str, shape: Shape, dtype: str) -> list[Launch]:
    """One number for each image and channel."""
    batch, channels, height, width = shape
    count = vector(dtype, channels)
    grid = batch * -(-(channels // count) // _COLUMNS)
    arguments: Arguments = (Pointer("input0"), Pointer("output"), *integers(height * width, channels))
    defines = options(dtype, VECTOR=count, MAXIMUM=int("max" in kind))
    return [Launch("global_pool", "global_pool.cu", defines, (grid, 1, 1), (_COLUMNS, _ROWS, 1), arguments)]
