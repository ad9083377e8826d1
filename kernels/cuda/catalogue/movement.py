"""Launches of what moves data: concat, slice, flatten, pad, resize, and the way in and out of NHWC."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from iosfarm.ir.graph import DTYPES
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.catalogue.elementwise import MAX_INPUTS
from iosfarm.kernels.cuda.catalogue.launch import Arguments, Launch, Pointer, Scalar, flat, integers
from iosfarm.kernels.cuda.catalogue.tensors import ELEMENTS, fits, options, pair, pixels_and_channels, vector

_MODES = ("constant", "reflect", "replicate")
_TILE = 32  # of transpose.cu
_UNSIGNED = 2**32


def concat(shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    """Each input into its channels of the output."""
    pixels, pitch = pixels_and_channels(output)
    counts = [pixels_and_channels(shape)[1] for shape in shapes]
    width = vector(dtype, *counts)
    result, done = [], 0
    for first in range(0, len(shapes), MAX_INPUTS):
        some = counts[first : first + MAX_INPUTS]
        inputs = [Pointer(f"input{first + i}") for i in range(len(some))]
        missing = MAX_INPUTS - len(some)
        grid, block = flat(pixels * sum(some) // width)
        arguments: Arguments = (
            *(*inputs, *[inputs[0]] * missing),
            *integers(*some, *[0] * missing),
            Pointer("output", done * DTYPES[dtype]),
            *integers(pixels, pitch),
        )
        constants = options(dtype, VECTOR=width, INPUTS=len(some))
        result.append(Launch("concat", "channels.cu", constants, grid, block, arguments))
        done += sum(some)
    return result


def channel_slice(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """Some channels of a tensor, made dense."""
    pixels, pitch = pixels_and_channels(shape)
    _, channels = pixels_and_channels(output)
    start = int(attributes["start"]) * pitch // shape[1]  # type: ignore[arg-type]
    width = vector(dtype, pitch, channels, start)
    grid, block = flat(pixels * channels // width)
    arguments: Arguments = (
        Pointer("input0", start * DTYPES[dtype]),
        Pointer("output"),
        *integers(pixels, channels, pitch, channels),
    )
    constants = options(dtype, VECTOR=width, INPUTS=1)
    return [Launch("slice", "channels.cu", constants, grid, block, arguments)]


def copy(shape: Shape, dtype: str) -> list[Launch]:
    """The same elements in the same order."""
    count = math.prod(shape)
    return channel_slice({"start": 0}, (1, count), (1, count), dtype)


def flatten(shape: Shape, dtype: str) -> list[Launch]:
    """Features in the order of NCHW: rows and columns of a pixel's channels change places."""
    if len(shape) != 4 or 1 in (shape[1], shape[2] * shape[3]):
        return copy(shape, dtype)
    return [_transpose(shape[0], shape[2] * shape[3], shape[1], ELEMENTS[dtype], ELEMENTS[dtype])]


def to_memory(shape: Shape, dtype: str) -> list[Launch]:
    """At the border: `input0`, NCHW and float32, to `output` as kernels read it."""
    batch, rows, columns = _border(shape)
    return [_transpose(batch, rows, columns, ELEMENTS["float32"], ELEMENTS[dtype])]


def from_memory(shape: Shape, dtype: str) -> list[Launch]:
    """At the border: `input0` as kernels wrote it, to `output`, NCHW and float32."""
    batch, rows, columns = _border(shape)
    return [_transpose(batch, columns, rows, ELEMENTS[dtype], ELEMENTS["float32"])]


def _border(shape: Shape) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2] * shape[3]) if len(shape) == 4 else (1, 1, math.prod(shape))


def _transpose(batch: int, rows: int, columns: int, source: str, target: str) -> Launch:
    tiles = batch * -(-rows // _TILE) * -(-columns // _TILE)
    return Launch(
        "transpose",
        "transpose.cu",
        (f"-DFROM={source}", f"-DTO={target}"),
        (tiles, 1, 1),
        (_TILE, 8, 1),
        (Pointer("input0"), Pointer("output"), *integers(rows, columns)),
    )


def pad(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """Padding is (left, right, top, bottom); negative crops."""
    amounts = attributes["padding"]
    assert isinstance(amounts, tuple)
    batch, channels, height, width = shape
    count = vector(dtype, channels)
    grid, block = flat(math.prod(output) // count)
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("output")),
        *integers(batch, height, width, channels, *output[2:], amounts[0], amounts[2]),
        *integers(_MODES.index(str(attributes["mode"]))),
        Scalar(float(attributes["value"]), "float32"),  # type: ignore[arg-type]
    )
    return [Launch("pad", "pad.cu", options(dtype, VECTOR=count), grid, block, arguments)]


def resize(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """To a given height and width."""
    batch, channels, *size = shape
    target = pair(attributes, "size")
    bilinear = attributes["mode"] == "bilinear"
    for before, after in zip(size, target, strict=True):
        fits("resize", (2 * after + 1) * before, f"{before} pixels to {after}", _UNSIGNED)
    count = vector(dtype, channels)
    grid, block = flat(math.prod(output) // count)
    scales = [float(np.float32(before) / np.float32(after)) for before, after in zip(size, target, strict=True)]
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("output")),
        *integers(batch, *size, channels, *target),
        *(Scalar(scale, "float32") for scale in scales),
        *integers(int(bool(attributes["align_corners"]))),
    )
    constants = options(dtype, VECTOR=count, BILINEAR=int(bilinear))
    return [Launch("resize", "resize.cu", constants, grid, block, arguments)]
