"""Merging convolutions that read the same tensor into one: which may be merged, and how.

After the "merge" strategy of IOS (Ding et al., MLSys 2021, section 3): output channels are concatenated and smaller
kernels are zero-padded to the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iosfarm.ir.graph import Graph
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.ir.stage_units import StageUnit

MergeClass = tuple[object, ...]
"""Convolutions of one class may be merged, if `merged_convolution` finds a kernel for them."""


@dataclass(frozen=True)
class MergedConvolution:
    """The merged kernel: size, padding and where each convolution's own kernel begins in it (row, column)."""

    kernel: tuple[int, int]
    padding: tuple[int, int]
    offsets: tuple[tuple[int, int], ...]


def merge_class(graph: Graph, unit: int) -> MergeClass | None:
    """The class of a unit, None where it cannot be merged: it must be a single conv2d with groups = 1.

    Equal: the input, stride, output size, dilation and activation.
    """
    names = graph.units[unit].operators
    operator = graph.operator(names[0])
    if len(names) != 1 or operator.kind != "conv2d" or operator.attributes["groups"] != 1:
        return None
    a = operator.attributes
    return (operator.inputs[0], a["stride"], a["dilation"], a["activation"], graph.shape(operator.name)[2:])


def merged_convolution(attributes: Sequence[Attributes], size: tuple[int, int]) -> MergedConvolution | None:
    """The kernel that holds all of `attributes` (conv2d attributes of one `MergeClass`), None if there is none.

    size: height and width of the input. A tap i of a kernel with padding p reads at i - p, so in a merged kernel with
    padding P = max p it stands at i + P - p. The output size must not change.
    """
    kernels = [_ints(a["kernel"]) for a in attributes]
    paddings = [_ints(a["padding"]) for a in attributes]
    stride, dilation = _ints(attributes[0]["stride"]), _ints(attributes[0]["dilation"])
    if dilation != (1, 1) and (len(set(kernels)) > 1 or len(set(paddings)) > 1):
        return None
    padding = (max(p[0] for p in paddings), max(p[1] for p in paddings))
    offsets = tuple((padding[0] - p[0], padding[1] - p[1]) for p in paddings)
    kernel = (
        max(offset[0] + k[0] for offset, k in zip(offsets, kernels, strict=True)),
        max(offset[1] + k[1] for offset, k in zip(offsets, kernels, strict=True)),
    )

    def outputs(k: tuple[int, int], p: tuple[int, int]) -> tuple[int, ...]:
        return tuple((size[i] + 2 * p[i] - dilation[i] * (k[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))

    if any(outputs(k, p) != outputs(kernel, padding) for k, p in zip(kernels, paddings, strict=True)):
        return None
    return MergedConvolution(kernel, padding, offsets)


def merge_of(units: Sequence[StageUnit], shape_of: Callable[[int], Shape]) -> MergedConvolution | None:
    """The convolution that computes all of these units of a stage, None where there is none or one unit only.

    shape_of: shape of what a reference stands for.
    """
    operators = [operator for unit in units for operator in unit.operators]
    if len(units) < 2 or len(operators) > len(units) or any(o.kind != "conv2d" for o in operators):
        return None
    first = operators[0]
    if first.attributes["groups"] != 1 or any(
        (o.references, o.shape[2:], *map(o.attributes.get, _EQUAL))
        != (first.references, first.shape[2:], *map(first.attributes.get, _EQUAL))
        for o in operators
    ):
        return None
    height, width = shape_of(first.references[0])[2:]
    return merged_convolution([o.attributes for o in operators], (height, width))


_EQUAL = ("stride", "dilation", "groups", "activation")


def _ints(value: object) -> tuple[int, int]:
    assert isinstance(value, tuple)
    return value[0], value[1]
