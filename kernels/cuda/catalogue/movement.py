"""Launches of what moves data: concat, slice, flatten, pad, resize."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from iosfarm.ir.graph import DTYPES
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.catalogue.elementwise import MAX_INPUTS
from iosfarm.kernels.cuda.catalogue.launch import Arguments, Launch, Pointer, Scalar, flat, integers
from iosfarm.kernels.cuda.catalogue.part import Part, target
from iosfarm.kernels.cuda.catalogue.tensors import around, fits, options, pair, vector

_MODES = ("constant", "reflect", "replicate")
_TILE = 32  # of transpose.cu
_UNSIGNED = 2**32


def concat(attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    """Each input into its part of the rows of the output."""
    axis = int(attributes.get("axis", 1))  # type: ignore[arg-type]
    rows, length, inner = around(output, axis)
    lengths = [around(shape, axis)[1] * inner for shape in shapes]
    return _together(lengths, [sum(lengths[:i]) for i in range(len(lengths))], rows, length * inner, dtype)


def concat_some(shapes: Sequence[Shape], firsts: Sequence[int], output: Shape, dtype: str) -> list[Launch]:
    """Images into channels of an output, each from its first one on; what else it has is not touched."""
    lengths = [shape[1] for shape in shapes]
    return _together(lengths, firsts, math.prod(output) // output[1], output[1], dtype)


def _together(lengths: Sequence[int], firsts: Sequence[int], rows: int, pitch: int, dtype: str) -> list[Launch]:
    """A launch for as many neighbours as one takes."""
    result, begin = [], 0
    while begin < len(lengths):
        end = begin + 1
        while end < min(len(lengths), begin + MAX_INPUTS) and firsts[end] == firsts[end - 1] + lengths[end - 1]:
            end += 1
        some, first = lengths[begin:end], firsts[begin]
        width = vector(dtype, *some, first, pitch)
        inputs = [Pointer(f"input{i}") for i in range(begin, end)]
        missing = MAX_INPUTS - len(some)
        grid, block = flat(rows * sum(some) // width)
        arguments: Arguments = (
            *(*inputs, *[inputs[0]] * missing),
            *integers(*some, *[0] * missing),
            Pointer("output", first * DTYPES[dtype]),
            *integers(rows, pitch),
        )
        constants = options(dtype, VECTOR=width, INPUTS=len(some))
        result.append(Launch("concat", "rows.cu", constants, grid, block, arguments))
        begin = end
    return result


def cut(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """A slice along an axis, made dense."""
    axis, step = int(attributes.get("axis", 1)), int(attributes.get("step", 1))  # type: ignore[arg-type]
    outer, length, inner = around(shape, axis)
    taken = around(output, axis)[1]
    start = int(attributes["start"]) * inner  # type: ignore[arg-type]
    if taken == 1 or step == 1:
        return _rows(start, outer, taken * inner, 1, 0, length * inner, dtype)
    return _rows(start, outer * taken, inner, taken, step * inner, length * inner, dtype)


def copy(shape: Shape, dtype: str) -> list[Launch]:
    """The same elements in the same order."""
    return _rows(0, 1, math.prod(shape), 1, 0, 0, dtype)


def cut_into(attributes: Attributes, shape: Shape, output: Shape, dtype: str, part: Part) -> list[Launch] | None:
    """A slice of channels into a part; None where it is another slice."""
    if attributes.get("axis", 1) != 1 or attributes.get("step", 1) != 1:
        return None
    pixels, start = math.prod(output) // output[1], int(attributes["start"])  # type: ignore[arg-type]
    return _rows(start, pixels, output[1], 1, 0, shape[1], dtype, part)


def _rows(
    start: int, rows: int, length: int, count: int, step: int, pitch: int, dtype: str, part: Part | None = None
) -> list[Launch]:
    to = target(part, length, dtype)
    width = vector(dtype, start, length, step, pitch, *to.counts)
    grid, block = flat(rows * length // width)
    arguments: Arguments = (
        Pointer("input0", start * DTYPES[dtype]),
        to.pointer,
        *integers(rows, length, count, step, pitch, to.pitch),
    )
    return [Launch("slice", "rows.cu", options(dtype, VECTOR=width, INPUTS=1), grid, block, arguments)]


def flatten(shape: Shape, dtype: str) -> list[Launch]:
    """Features in the order of NCHW: rows and columns of a pixel's channels change places."""
    if len(shape) != 4 or 1 in (shape[1], shape[2] * shape[3]):
        return copy(shape, dtype)
    return [_transpose(shape[0], shape[2] * shape[3], shape[1], dtype)]


def _transpose(batch: int, rows: int, columns: int, dtype: str) -> Launch:
    tiles = batch * -(-rows // _TILE) * -(-columns // _TILE)
    return Launch(
        "transpose",
        "transpose.cu",
        options(dtype),
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


def resize(attributes: Attributes, shape: Shape, output: Shape, dtype: str, part: Part | None = None) -> list[Launch]:
    """To a given height and width."""
    batch, channels, *size = shape
    wanted = pair(attributes, "size")
    bilinear = attributes["mode"] == "bilinear"
    for before, after in zip(size, wanted, strict=True):
        fits("resize", (2 * after + 1) * before, f"{before} pixels to {after}", _UNSIGNED)
    to = target(part, channels, dtype)
    count = vector(dtype, channels, *to.counts)
    grid, block = flat(math.prod(output) // count)
    scales = [float(np.float32(before) / np.float32(after)) for before, after in zip(size, wanted, strict=True)]
    arguments: Arguments = (
        *(Pointer("input0"), to.pointer),
        *integers(batch, *size, channels, *wanted),
        *(Scalar(scale, "float32") for scale in scales),
        *integers(int(bool(attributes["align_corners"])), to.pitch),
    )
    constants = options(dtype, VECTOR=count, BILINEAR=int(bilinear))
    return [Launch("resize", "resize.cu", constants, grid, block, arguments)]
