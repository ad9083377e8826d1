"""The kernel catalogue: which kernels with which arguments make an operator. Plain data, no GPU library.

Tensors of four axes are NHWC in memory, others as they are; parameters lie as `parameter_axes` says; every buffer has
elements of the one dtype and begins at a multiple of 256 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from iosfarm.ir.errors import GraphError, Infeasible
from iosfarm.ir.operators import Attribute, Shape, spec
from iosfarm.kernels.cuda.catalogue import convolutions, movement, ordering, products, tensors
from iosfarm.kernels.cuda.catalogue.convolutions import Convolution
from iosfarm.kernels.cuda.catalogue.launch import NULL, Launch, Pointer, Scalar, scratch_bytes
from iosfarm.kernels.cuda.catalogue.operators import INTO, LAUNCHES
from iosfarm.kernels.cuda.catalogue.part import Part
from iosfarm.kernels.cuda.catalogue.sources import source_names, source_text
from iosfarm.kernels.cuda.catalogue.tiling import tensor_tiles, tilings

__all__ = [
    "NULL",
    "Launch",
    "Part",
    "Pointer",
    "Scalar",
    "alternatives",
    "concat_some",
    "into",
    "is_view",
    "launches",
    "parameter_axes",
    "scratch_bytes",
    "separable",
    "source_names",
    "source_text",
]


class Kind(Protocol):
    """What the catalogue needs of an operator: those of graphs and of stages have it."""

    @property
    def kind(self) -> str: ...

    @property
    def attributes(self) -> Mapping[str, Attribute]: ...


def launches(operator: Kind, shapes: Sequence[Shape], dtype: str, *, residual: bool = False) -> list[Launch]:
    """What computes an operator on inputs of these shapes (NCHW, batch included).

    Pointers: `input0`, …, the operator's parameters by name, `output`, perhaps `scratch`. residual: the tensor
    `residual`, of the output's shape, is added before the activation; conv2d only.

    Raises:
        GraphError: inputs that do not fit the operator. Infeasible: a tensor too large for 32-bit indices.
        or an operator without a kernel.
        UsageError: an unknown dtype.
    """
    output = _output(operator, shapes, dtype)
    if residual:
        if operator.kind != "conv2d":
            raise ValueError(f"{operator.kind} takes no residual")
        return convolutions.convolution(Convolution.of(operator.attributes, shapes[0], output), dtype, residual)
    make = LAUNCHES.get(operator.kind)
    if make is None:
        raise Infeasible("there is no CUDA kernel for this operator", where=operator.kind)
    return make(operator.kind, operator.attributes, shapes, output, dtype)


def into(operator: Kind, shapes: Sequence[Shape], dtype: str, part: Part) -> list[Launch] | None:
    """As `launches`, but the pointer `output` is a larger image, of which the result becomes some channels; None where
    there is no kernel that writes so.

    Raises: as `launches`.
    """
    output = _output(operator, shapes, dtype)
    make = INTO.get(operator.kind)
    if make is None or len(output) != 4:
        return None
    return make(operator.kind, operator.attributes, shapes, output, dtype, part)


def concat_some(shapes: Sequence[Shape], firsts: Sequence[int], output: Shape, dtype: str) -> list[Launch]:
    """Images as channels of `output`, each from its first one on; other channels are left as they are."""
    return movement.concat_some(shapes, firsts, output, dtype)


def alternatives(
    operator: Kind,
    shapes: Sequence[Shape],
    dtype: str,
    *,
    residual: bool = False,
    most: int = 4,
    tensor: bool = False,
    part: Part | None = None,
) -> list[list[Launch]]:
    """Up to `most` ways to compute an operator, the most promising first: for a runtime that measures which is best.

    tensor: as many again that multiply by tensor cores come before them; float32 is rounded to TF32 then. part: of a
    larger image, to write a conv2d's result to.

    Raises: as `launches`.
    """
    if operator.kind != "conv2d":
        return [launches(operator, shapes, dtype, residual=residual)]
    conv = Convolution.of(operator.attributes, shapes[0], _output(operator, shapes, dtype))
    if conv.depthwise:
        return [convolutions.convolution(conv, dtype, residual, part=part)]
    ways = convolutions.conv_tilings(conv)[:most]
    if tensor:
        ways = convolutions.conv_tilings(conv, tensor_tiles(dtype))[:most] + ways
    return [convolutions.convolution(conv, dtype, residual, tiling, part) for tiling in ways]


def separable(
    depthwise: Kind,
    pointwise: Kind,
    shape: Shape,
    dtype: str,
    *,
    before: str = "none",
    residual: bool = False,
    tensor: bool = False,
    part: Part | None = None,
) -> list[Launch] | None:
    """An activation (`before`), a depthwise and a pointwise convolution as one kernel; None where they are not that.

    Pointers: `input0`, `depthwise.weight`, `depthwise.bias`, `pointwise.weight`, `pointwise.bias`, `residual`,
    `output`; weights lie as those of the two convolutions by themselves. tensor: the pointwise
    products by tensor cores. part: see `alternatives`.

    Raises: as `launches`.
    """
    if (depthwise.kind, pointwise.kind) != ("conv2d", "conv2d"):
        return None
    middle = _output(depthwise, [shape], dtype)
    first = Convolution.of(depthwise.attributes, shape, middle)
    second = Convolution.of(pointwise.attributes, middle, _output(pointwise, [middle], dtype))
    plain = Convolution(middle, second.output, bias=second.bias, activation=second.activation)
    if not first.depthwise or middle[1] != shape[1] or second != plain:
        return None
    tile = None
    if tensor:
        tile = tilings(second.pixels, second.output[1], 1, 1, tensor_tiles(dtype))[0].tile
    return convolutions.separable(first, second, dtype, before, residual, tile, part)


def parameter_axes(operator: Kind, shapes: Sequence[Shape]) -> dict[str, tuple[int, ...]]:
    """The order in which a parameter's axes lie in memory, for those that are not as the operator's spec has them."""
    if operator.kind == "conv2d":
        return {"weight": convolutions.weight_axes(operator.attributes, shapes[0])}
    return {"weight": products.transposed_weight_axes()} if operator.kind == "conv_transpose2d" else {}


def is_view(operator: Kind, shapes: Sequence[Shape]) -> bool:
    """Whether the output has the input's elements in the input's order, so that no kernel need run."""
    shape = shapes[0]
    if operator.kind == "dropout":
        return True
    if operator.kind == "flatten":
        return len(shape) != 4 or 1 in (shape[1], shape[2] * shape[3])
    if operator.kind not in ("reshape", "transpose"):
        return False
    output = spec(operator.kind).infer(operator.attributes, shapes)
    if operator.kind == "reshape":
        return ordering.reshape_is_view(shape, output)
    return ordering.transpose_is_view(operator.attributes, shape, output)


def _output(operator: Kind, shapes: Sequence[Shape], dtype: str) -> Shape:
    tensors.check(operator.kind, shapes, dtype)
    try:
        output = spec(operator.kind).infer(operator.attributes, shapes)
    except GraphError as error:
        raise GraphError(error.what, where=operator.kind, hint=error.hint) from None
    tensors.check(operator.kind, [output], dtype)
    return output
