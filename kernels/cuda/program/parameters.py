"""Weights as they lie on the device: one block of memory for each step that has any."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.graph import DTYPES
from iosfarm.ir.merge import merged_convolution
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.device.gpu import Bytes, rounded
from iosfarm.kernels.cuda.device.layout import encoded
from iosfarm.kernels.runtime import Array


@dataclass(frozen=True)
class Parameter:
    """One tensor of weights. shape: as the graph has it. order: its axes from the slowest to the fastest in memory.

    offset: bytes from the beginning of the block.
    """

    name: str
    shape: Shape
    order: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Block:
    """The parameters of one step, each at a multiple of the alignment. size: bytes."""

    parameters: tuple[Parameter, ...]
    size: int

    def offset(self, name: str) -> int:
        """Where a parameter begins; KeyError if there is none of that name."""
        return {p.name: p.offset for p in self.parameters}[name]


NONE = Block((), 0)


def block_of(shapes: Mapping[str, Shape], orders: Mapping[str, tuple[int, ...]], dtype: str) -> Block:
    """Parameters one after the other. orders: of those that do not lie as the graph has them."""
    parameters = []
    offset = 0
    for name, shape in shapes.items():
        order = orders.get(name, tuple(range(len(shape))))
        parameters.append(Parameter(name, shape, order, offset))
        offset += rounded(math.prod(shape) * DTYPES[dtype])
    return Block(tuple(parameters), offset)


def packed(block: Block, weights: Mapping[str, Array], dtype: str) -> Bytes:
    """The bytes of a block. weights: by name, of the shapes that the graph has."""
    result = np.zeros(block.size, np.uint8)
    for parameter in block.parameters:
        values = np.asarray(weights[parameter.name], np.float32).transpose(parameter.order)
        data = encoded(np.ascontiguousarray(values), dtype)
        result[parameter.offset : parameter.offset + data.nbytes] = data
    return result


def merged_weights(
    attributes: Sequence[Attributes], weights: Sequence[Mapping[str, Array]], size: tuple[int, int]
) -> dict[str, Array]:
    """Weights of the one convolution that computes all of `attributes`, output channels in order.

    Kernels stand at their offsets in a larger one of zeros; a missing bias is zero.
    """
    merged = merged_convolution(attributes, size)
    if merged is None:
        raise ValueError("these convolutions cannot be merged")
    pieces = [np.asarray(given["weight"], np.float32) for given in weights]
    weight: NDArray[np.float32] = np.zeros(
        (sum(len(p) for p in pieces), pieces[0].shape[1], *merged.kernel), np.float32
    )
    first = 0
    for piece, (top, left) in zip(pieces, merged.offsets, strict=True):
        weight[first : first + len(piece), :, top : top + piece.shape[2], left : left + piece.shape[3]] = piece
        first += len(piece)
    result: dict[str, Array] = {"weight": weight}
    if any(a["bias"] for a in attributes):
        biases = [
            np.asarray(given["bias"], np.float32) if a["bias"] else np.zeros(len(piece), np.float32)
            for a, given, piece in zip(attributes, weights, pieces, strict=True)
        ]
        result["bias"] = np.concatenate(biases)
    return result
