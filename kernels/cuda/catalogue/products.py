"""Launches of other products: matmul, attention, linear layers along the rows of images, transposed convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.catalogue.launch import NULL, Arguments, Launch, Pointer, Scalar, flat, integers
from iosfarm.kernels.cuda.catalogue.tensors import activation_of, fits, memory_strides, options, pair
from iosfarm.kernels.cuda.catalogue.tiling import MAX_GRID

_TILE = 32  # of matmul.cu
_CHUNK, _MOST_FEATURES = 128, 1024  # of attention.cu


def matmul(shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    """Matrices along the last two axes."""
    left, right, result = (_matrices("matmul", shape, output) for shape in (*shapes, output))
    sizes = (*output[-2:], shapes[0][-1])
    return [_matmul(NULL, Pointer("input1"), sizes, output, (left, right, result), 0, dtype)]


def linear_rows(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """A linear layer along the rows of images: each is a matrix times the same weights."""
    left, result = _matrices("linear", shape, output), _matrices("linear", output, output)
    features = shape[-1]
    fits("linear", output[-1] * features, f"a weight of {output[-1]} x {features}")
    weights = (0, 0, 1, features)
    bias = Pointer("bias") if attributes["bias"] else NULL
    sizes = (*output[-2:], features)
    activation = activation_of(attributes)
    return [_matmul(bias, Pointer("weight"), sizes, output, (left, weights, result), activation, dtype)]


def _matmul(
    bias: Pointer,
    right: Pointer,
    sizes: tuple[int, ...],
    output: Shape,
    strides: tuple[tuple[int, ...], ...],
    activation: int,
    dtype: str,
) -> Launch:
    rows, columns, _ = sizes
    tiles = -(-rows // _TILE) * -(-columns // _TILE)
    count, inner = _count("matmul", output)
    arguments: Arguments = (
        *(Pointer("input0"), right, bias, Pointer("output")),
        *integers(*sizes, inner, *(value for of in strides for value in of)),
    )
    return Launch(
        "matmul", "matmul.cu", options(dtype, ACTIVATION=activation), (tiles, count, 1), (16, 16, 1), arguments
    )


def attention(attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    """One query a block."""
    query, key, value = shapes[:3]
    if value[-1] > _MOST_FEATURES:
        raise Infeasible(f"no CUDA kernel for attention over values of {value[-1]} features", where="attention")
    count, inner = _count("attention", output)
    strides = [number for shape in (query, key, value) for number in _matrices("attention", shape, output)]
    masked = len(shapes) == 4
    logits = (*query[:-1], key[-2])
    strides += _matrices("attention", shapes[3], logits) if masked else (0, 0, 0, 0)
    strides += _matrices("attention", output, output)
    scale = float(attributes["scale"]) or 1 / math.sqrt(query[-1])  # type: ignore[arg-type]
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("input1"), Pointer("input2"), Pointer("input3") if masked else NULL),
        Pointer("output"),
        *integers(key[-2], query[-1], value[-1], inner, int(bool(attributes["causal"]))),
        Scalar(scale, "float32"),
        *integers(*strides),
    )
    return [Launch("attention", "attention.cu", options(dtype), (query[-2], count, 1), (_CHUNK, 1, 1), arguments)]


def _count(kind: str, shape: Shape) -> tuple[int, int]:
    """Matrices of a tensor, and of each of the outer of the two axes that number them."""
    count = math.prod(shape[:-2])
    if count > MAX_GRID:
        raise Infeasible(f"{count} matrices need a larger grid than CUDA has", where=kind)
    return count, shape[1] if len(shape) == 4 else 1


def _matrices(kind: str, shape: Shape, full: Shape) -> tuple[int, int, int, int]:
    """Strides of the two axes that number matrices, 0 where one is for all of `full`, and of rows and columns."""
    strides = [0 if size == 1 else stride for size, stride in zip(shape, memory_strides(shape), strict=True)]
    if len(shape) == 4:
        return strides[0], strides[1], strides[2], strides[3]
    if len(shape) > 4 and shape[:-2] != full[:-2]:
        raise Infeasible(f"no CUDA kernel for {list(shape)} where {list(full)} is needed", where=kind)
    outer = 0 if len(shape) == 2 or math.prod(shape[:-2]) == 1 else shape[-2] * shape[-1]
    return outer, 0, strides[-2], strides[-1]


def transposed_weight_axes() -> tuple[int, ...]:
    """The order of a conv_transpose2d weight's axes in memory: rows, columns, in channels, out channels of a group."""
    return 2, 3, 0, 1


def transposed_convolution(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """Each output pixel from the input pixels that reach it."""
    _, channels, height, width = shape
    kernel, groups = pair(attributes, "kernel"), int(attributes["groups"])  # type: ignore[arg-type]
    taps = math.prod(kernel) * channels * output[1] // groups
    fits("conv_transpose2d", taps, f"a weight of {taps} elements")
    count = math.prod(output)
    grid, block = flat(count)
    dilation = pair(attributes, "dilation")
    window = (*kernel, *pair(attributes, "stride"), *pair(attributes, "padding"))
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("weight"), Pointer("bias") if attributes["bias"] else NULL, Pointer("output")),
        *integers(count, height, width, channels, *output[2:], output[1], *window, *dilation, groups),
    )
    constants = options(dtype, ACTIVATION=activation_of(attributes))
    name = "transposed_convolution"
    return [Launch(name, f"{name}.cu", constants, grid, block, arguments)]
