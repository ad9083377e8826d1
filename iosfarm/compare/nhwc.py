"""Our graphs in terms of few operations on NHWC tensors, for frameworks that compute best in that layout.

A framework gives `Operations`; `lower` walks over the graph. Sizes, padding and activations are decided here, so that
all such frameworks compute the same. Tensors that are no images (after `flatten`) are (batch, features).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from iosfarm.compare.adapter import CannotRun
from iosfarm.compare.problem import Array
from iosfarm.ir.graph import Graph, Operator

Tensor = Any
"""The framework's own."""
Pads = tuple[tuple[int, int], tuple[int, int]]
"""(top, bottom), (left, right)."""
Pair = tuple[int, int]


class Operations(Protocol):
    """What a framework has to offer; names as in NumPy and in the frameworks."""

    @property
    def activations(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """By our names."""
        ...

    def constant(self, array: Array) -> Tensor:
        """An array in the network's dtype."""
        ...

    def conv2d(self, x: Tensor, weight: Array, stride: Pair, pads: Pads, dilation: Pair, groups: int) -> Tensor:
        """weight: (height, width, input channels of a group, output channels)."""
        ...

    def max_pool(self, x: Tensor, kernel: Pair, stride: Pair, pads: Pads) -> Tensor:
        """Padding never wins."""
        ...

    def sum_pool(self, x: Tensor, kernel: Pair, stride: Pair, pads: Pads) -> Tensor:
        """Sums of windows, padding counts as zero."""
        ...

    def mean(self, x: Tensor) -> Tensor:
        """Over height and width, which stay as 1."""
        ...

    def matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        """x: (batch, features)."""
        ...

    def concat(self, values: Sequence[Tensor], axis: int) -> Tensor:
        """Joined along an axis."""
        ...

    def pad(self, x: Tensor, pads: Pads, value: float) -> Tensor:
        """More height and width."""
        ...

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Axes in another order."""
        ...

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements in another shape."""
        ...

    def softmax(self, x: Tensor, axis: int) -> Tensor:
        """Along an axis."""
        ...


def lower(graph: Graph, weights: Mapping[str, Array], ops: Operations) -> Callable[..., list[Tensor]]:
    """A function of the inputs (NHWC) that gives the outputs (NCHW).

    Raises:
        CannotRun: an operator has no lowering here.
    """
    for operator in graph.operators:
        if operator.kind not in _LOWERINGS and operator.kind not in ops.activations:
            raise CannotRun(f"no lowering of {operator.kind} for this framework in iosfarm")

    def network(*inputs: Tensor) -> list[Tensor]:
        values = {item.name: value for item, value in zip(graph.inputs, inputs, strict=True)}
        for operator in graph.operators:
            read = [values[name] for name in operator.inputs]
            if operator.kind in _LOWERINGS:
                result = _LOWERINGS[operator.kind](_Context(graph, operator, weights, ops), read)
            else:
                result = ops.activations[operator.kind](read[0])
            activation = str(operator.attributes.get("activation", "none"))
            values[operator.name] = result if activation == "none" else ops.activations[activation](result)
        return [_nchw(ops, values[name], graph.shape(name)) for name in graph.outputs]

    return network


def nhwc(array: Array) -> Array:
    """An image of (batch, channels, height, width) as (batch, height, width, channels)."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _nchw(ops: Operations, value: Tensor, shape: Sequence[int]) -> Tensor:
    return ops.transpose(value, (0, 3, 1, 2)) if len(shape) == 4 else value


class _Context:
    """One operator, with its attributes at hand."""

    def __init__(self, graph: Graph, operator: Operator, weights: Mapping[str, Array], ops: Operations) -> None:
        self.graph, self.operator, self.ops = graph, operator, ops
        self._weights = weights
        self.attributes: Mapping[str, Any] = operator.attributes
        self.shape = graph.shape(operator.inputs[0])

    def weight(self, name: str) -> Array:
        return self._weights[f"{self.operator.name}.{name}"]

    def pads(self) -> Pads:
        """Padding of a window; what `ceil_mode` reads beyond the padded input is padding, too."""
        kernel, stride, padding = (self.attributes[name] for name in ("kernel", "stride", "padding"))
        output = self.graph.shape(self.operator.name)
        dilation = self.attributes.get("dilation", (1, 1))
        after = []
        for i in (0, 1):
            reach = (output[2 + i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
            after.append(max(padding[i], reach - self.shape[2 + i] - padding[i]))
        return ((padding[0], after[0]), (padding[1], after[1]))


def _conv2d(c: _Context, read: list[Tensor]) -> Tensor:
    a = c.attributes
    weight = np.ascontiguousarray(c.weight("weight").transpose(2, 3, 1, 0))
    padding = a["padding"]
    pads = ((padding[0], padding[0]), (padding[1], padding[1]))
    result = c.ops.conv2d(read[0], weight, a["stride"], pads, a["dilation"], a["groups"])
    return result + c.ops.constant(c.weight("bias")) if a["bias"] else result


def _max_pool(c: _Context, read: list[Tensor]) -> Tensor:
    return c.ops.max_pool(read[0], c.attributes["kernel"], c.attributes["stride"], c.pads())


def _avg_pool(c: _Context, read: list[Tensor]) -> Tensor:
    """Sums of windows over how many elements count in each, which is known beforehand."""
    a, pads = c.attributes, c.pads()
    kernel, stride, padding = a["kernel"], a["stride"], a["padding"]
    counts = []
    for i in (0, 1):
        size, outputs = c.shape[2 + i], c.graph.shape(c.operator.name)[2 + i]
        edge = padding[i] if a["count_include_pad"] else 0
        starts = [position * stride[i] - padding[i] for position in range(outputs)]
        counts.append([max(min(s + kernel[i], size + edge) - max(s, -edge), 1) for s in starts])
    shares = 1.0 / (np.asarray(counts[0])[:, None] * np.asarray(counts[1])[None, :])
    same = np.ptp(shares) == 0
    scale = c.ops.constant(shares.flat[0] if same else shares[None, :, :, None])
    return c.ops.sum_pool(read[0], kernel, stride, pads) * scale


def _adaptive_avg_pool(c: _Context, read: list[Tensor]) -> Tensor:
    size = c.attributes["output_size"]
    if tuple(size) == (1, 1):
        return c.ops.mean(read[0])
    if c.shape[2] % size[0] or c.shape[3] % size[1]:
        raise CannotRun(f"no lowering of adaptive_avg_pool of {c.shape[2:]} to {size} for this framework in iosfarm")
    kernel = (c.shape[2] // size[0], c.shape[3] // size[1])
    share = c.ops.constant(np.asarray(1.0 / (kernel[0] * kernel[1])))
    return c.ops.sum_pool(read[0], kernel, kernel, ((0, 0), (0, 0))) * share


def _add(_: _Context, read: list[Tensor]) -> Tensor:
    return sum(read[1:], read[0])


def _mul(_: _Context, read: list[Tensor]) -> Tensor:
    result = read[0]
    for other in read[1:]:
        result = result * other
    return result


def _axis(c: _Context, axis: int) -> int:
    """An axis of an NCHW tensor where the framework has it."""
    rank = len(c.shape)
    return (0, 3, 1, 2)[axis % rank] if rank == 4 else axis % rank


def _slice(c: _Context, read: list[Tensor]) -> Tensor:
    a = c.attributes
    part = slice(a["start"], a["stop"], a.get("step", 1))
    return read[0][(*[slice(None)] * _axis(c, a.get("axis", 1)), part)]


def _batch_norm(c: _Context, read: list[Tensor]) -> Tensor:
    scale = c.weight("weight") / np.sqrt(c.weight("running_var").astype(np.float64) + c.attributes["eps"])
    shift = c.weight("bias") - scale * c.weight("running_mean")
    return read[0] * c.ops.constant(scale) + c.ops.constant(shift)


def _linear(c: _Context, read: list[Tensor]) -> Tensor:
    result = c.ops.matmul(read[0], c.ops.constant(np.ascontiguousarray(c.weight("weight").T)))
    return result + c.ops.constant(c.weight("bias")) if c.attributes["bias"] else result


def _flatten(c: _Context, read: list[Tensor]) -> Tensor:
    x = read[0]
    if len(c.shape) == 4 and c.shape[2:] != (1, 1):
        x = c.ops.transpose(x, (0, 3, 1, 2))
    return c.ops.reshape(x, c.graph.shape(c.operator.name))


def _pad(c: _Context, read: list[Tensor]) -> Tensor:
    left, right, top, bottom = c.attributes["padding"]
    if c.attributes["mode"] != "constant":
        raise CannotRun(f"no lowering of {c.attributes['mode']} padding for this framework in iosfarm")
    grown = ((max(0, top), max(0, bottom)), (max(0, left), max(0, right)))
    x = c.ops.pad(read[0], grown, c.attributes["value"]) if grown != ((0, 0), (0, 0)) else read[0]
    height, width = c.shape[2] + sum(grown[0]), c.shape[3] + sum(grown[1])
    rows = slice(max(0, -top), height - max(0, -bottom))
    columns = slice(max(0, -left), width - max(0, -right))
    return x[:, rows, columns, :] if min(c.attributes["padding"]) < 0 else x


_LOWERINGS: dict[str, Callable[[_Context, list[Tensor]], Tensor]] = {
    "conv2d": _conv2d,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": lambda c, read: c.ops.mean(read[0]),
    "adaptive_avg_pool": _adaptive_avg_pool,
    "add": _add,
    "mul": _mul,
    "concat": lambda c, read: c.ops.concat(read, _axis(c, c.attributes.get("axis", 1))),
    "slice": _slice,
    "batch_norm": _batch_norm,
    "linear": _linear,
    "flatten": _flatten,
    "softmax": lambda c, read: c.ops.softmax(read[0], _axis(c, c.attributes["axis"])),
    "dropout": lambda _, read: read[0],
    "pad": _pad,
}
