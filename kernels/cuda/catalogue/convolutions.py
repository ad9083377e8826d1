"""Launches of convolutions, linear layers and separable units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.catalogue.launch import NULL, Arguments, Launch, Pointer, flat, integers
from iosfarm.kernels.cuda.catalogue.part import Part, Target, target
from iosfarm.kernels.cuda.catalogue.pooling import strip_constants
from iosfarm.kernels.cuda.catalogue.tensors import activation_code, activation_of, fits, options, pair, vector
from iosfarm.kernels.cuda.catalogue.tiling import MAX_GRID, TILES, Tile, Tiling, tilings

Axes = tuple[int, ...]

FIXED_WIDTHS = (3, 5, 7)
FIXED_STRIDES = (1, 2)
"""Depthwise kernels and strides that have loops of constant length."""

_FEW_ROWS = 16  # a linear layer of up to so many reads its weights as fast as memory gives them


@dataclass(frozen=True)
class Convolution:
    """A conv2d on an NCHW shape; pairs are (vertical, horizontal)."""

    shape: Shape
    output: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True
    activation: int = 0

    @classmethod
    def of(cls, attributes: Attributes, shape: Shape, output: Shape) -> Convolution:
        """From an operator's attributes."""
        kernel, dilation = pair(attributes, "kernel"), pair(attributes, "dilation")
        return cls(
            shape,
            output,
            kernel,
            pair(attributes, "stride"),
            pair(attributes, "padding"),
            # Of a single tap, dilation may be any number: one that overflows must not reach a kernel.
            (dilation[0] if kernel[0] > 1 else 1, dilation[1] if kernel[1] > 1 else 1),
            int(attributes["groups"]),  # type: ignore[arg-type]
            bool(attributes["bias"]),
            activation_of(attributes),
        )

    @property
    def depthwise(self) -> bool:
        """Each input channel by itself."""
        return self.groups == self.shape[1] and self.groups > 1

    @property
    def pixels(self) -> int:
        """Of the output."""
        return self.output[0] * self.output[2] * self.output[3]

    @property
    def length(self) -> int:
        """Products in one sum."""
        return math.prod(self.kernel) * self.shape[1] // self.groups

    def sizes(self) -> tuple[int, ...]:
        """Batch, input and output sizes, kernel, stride, padding, dilation, as kernels take them."""
        batch, channels, *size = self.shape
        window = (*self.kernel, *self.stride, *self.padding, *self.dilation)
        return (batch, *size, channels, *self.output[2:], self.output[1], *window)


def weight_axes(attributes: Attributes, shape: Shape) -> Axes:
    """The order of a conv2d weight's axes in memory: out channels, rows, columns, in channels; for a depthwise one
    rows, columns, channels."""
    depthwise = attributes["groups"] == shape[1] and shape[1] > 1
    return (2, 3, 0, 1) if depthwise else (0, 2, 3, 1)


def convolution(
    conv: Convolution, dtype: str, residual: bool, tiling: Tiling | None = None, part: Part | None = None
) -> list[Launch]:
    """One convolution. tiling: instead of the most promising one (not for a depthwise convolution)."""
    end = Pointer("bias") if conv.bias else NULL, Pointer("residual") if residual else NULL
    if conv.depthwise:
        return [_depthwise(conv, dtype, end, part)]
    _check_product(conv)
    tiling = tiling or conv_tilings(conv)[0]
    tile, splits = tiling.tile, tiling.splits
    group_in, group_out = conv.shape[1] // conv.groups, conv.output[1] // conv.groups
    width = vector(dtype, group_in) if tile.tensor else math.gcd(4, group_in)
    activation = conv.activation if splits == 1 else 0
    partial = 4 * splits * math.prod(conv.output) if splits > 1 else 0
    to = target(part, conv.output[1], dtype)
    launches = [
        Launch(
            "convolution",
            "convolution.cu",
            options(dtype, VECTOR=width, **tile.constants(), ACTIVATION=activation),
            (-(-conv.pixels // tile.m), -(-group_out // tile.n), conv.groups * splits),
            (tile.threads, 1, 1),
            (
                *(Pointer("input0"), Pointer("weight"), *end, to.pointer),
                Pointer("scratch") if partial else NULL,
                *integers(*conv.sizes(), conv.groups, splits, to.pitch),
            ),
            scratch_bytes=partial,
        )
    ]
    if splits > 1:
        launches.append(_split_sum(conv, dtype, end, splits, partial, to))
    return launches


def conv_tilings(conv: Convolution, tiles: Sequence[Tile] = TILES) -> list[Tiling]:
    """Ways to cut a convolution that is not depthwise, the most promising first."""
    return tilings(conv.pixels, conv.output[1] // conv.groups, conv.length, conv.groups, tiles)


def _check_product(conv: Convolution) -> None:
    """Raises Infeasible where the weights, which no tensor's check has seen, or the grid would be too large."""
    fits("conv2d", conv.output[1] * conv.length, f"a weight of {conv.output[1]} x {conv.length}")
    # Rows of the last tile that are no pixels are numbered too.
    fits("conv2d", conv.pixels + TILES[0].m, f"an output of {conv.pixels} pixels")
    if max(conv.groups, -(-conv.output[1] // TILES[-1].n)) > MAX_GRID:
        raise Infeasible(
            f"{conv.output[1]} channels in {conv.groups} groups need a larger grid than CUDA has", where="conv2d"
        )


def _split_sum(
    conv: Convolution, dtype: str, end: tuple[Pointer, Pointer], splits: int, partial: int, to: Target
) -> Launch:
    count, channels = math.prod(conv.output), conv.output[1]
    width = math.gcd(4, channels, *to.counts)
    grid, block = flat(count // width)
    constants = options(dtype, VECTOR=width, ACTIVATION=conv.activation)
    arguments: Arguments = (Pointer("scratch"), *end, to.pointer, *integers(count, channels, splits, to.pitch))
    return Launch("split_sum", "split_sum.cu", constants, grid, block, arguments, scratch_bytes=partial)


def _depthwise(conv: Convolution, dtype: str, end: tuple[Pointer, Pointer], part: Part | None) -> Launch:
    channels = conv.output[1]
    fits("conv2d", channels * conv.length, f"a weight of {channels} x {conv.length}")
    to = target(part, channels, dtype)
    width = vector(dtype, channels, *to.counts) if channels == conv.shape[1] else 1
    kernel, stride = conv.kernel[1], conv.stride[1]
    fixed = kernel in FIXED_WIDTHS and stride in FIXED_STRIDES and conv.dilation[1] == 1
    constants = strip_constants(fixed, kernel, stride, math.prod(conv.output) // width)
    grid, block = flat(conv.output[0] * conv.output[2] * -(-conv.output[3] // constants["STRIP"]) * channels // width)
    defines = options(dtype, VECTOR=width, **constants, ACTIVATION=conv.activation)
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("weight"), *end, to.pointer),
        *integers(*conv.sizes(), to.pitch),
    )
    return Launch("depthwise", "depthwise.cu", defines, grid, block, arguments)


def linear(attributes: Attributes, shape: Shape, output: Shape, dtype: str) -> list[Launch]:
    """A few rows by reading the weights once; many as a convolution of one pixel each."""
    batch, features = math.prod(shape[:-1]), shape[-1]
    activation, bias = activation_of(attributes), bool(attributes["bias"])
    if batch > _FEW_ROWS:
        conv = Convolution((batch, features, 1, 1), (batch, output[-1], 1, 1), bias=bias, activation=activation)
        return convolution(conv, dtype, residual=False)
    fits("linear", output[-1] * features, f"a weight of {output[-1]} x {features}")
    rows, warps = (1 if batch == 1 else 4), 4
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("weight"), Pointer("bias") if bias else NULL, Pointer("output")),
        *integers(batch, features, output[-1]),
    )
    constants = options(dtype, VECTOR=vector(dtype, features), BATCH=rows, ACTIVATION=activation)
    grid = (-(-output[-1] // warps), -(-batch // rows), 1)
    return [Launch("linear", "linear.cu", constants, grid, (32, warps, 1), arguments)]


def separable(
    depthwise: Convolution,
    pointwise: Convolution,
    dtype: str,
    before: str,
    residual: bool,
    tile: Tile | None = None,
    part: Part | None = None,
) -> list[Launch]:
    """Activation, depthwise and pointwise convolution in one. tile: instead of what fills a large GPU, by its cores."""
    channels, out_channels = depthwise.shape[1], pointwise.output[1]
    _check_product(pointwise)
    tile = tile or tilings(pointwise.pixels, out_channels, 1, 1)[0].tile
    constants = options(
        dtype,
        VECTOR=vector(dtype, channels) if tile.tensor else math.gcd(4, channels),
        **tile.constants(),
        BEFORE=activation_code(before),
        BETWEEN=depthwise.activation,
        ACTIVATION=pointwise.activation,
    )
    to = target(part, out_channels, dtype)
    arguments: Arguments = (
        *(Pointer("input0"), Pointer("depthwise.weight")),
        *(Pointer("depthwise.bias") if depthwise.bias else NULL, Pointer("pointwise.weight")),
        Pointer("pointwise.bias") if pointwise.bias else NULL,
        *(Pointer("residual") if residual else NULL, to.pointer),
        *integers(*depthwise.sizes()[:6], out_channels, *depthwise.sizes()[7:], to.pitch),
    )
    grid = (-(-pointwise.pixels // tile.m), -(-out_channels // tile.n), 1)
    return [Launch("separable", "separable.cu", constants, grid, (tile.threads, 1, 1), arguments)]
