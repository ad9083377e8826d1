"""Weights of a graph: random ones whose activations stay finite, and safetensors files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph, Operator
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.zoo.registry import nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]
    """Arrays by `operator.parameter`, e.g. "conv2d_1.weight"."""

_HALVING = frozenset({"relu", "relu6", "silu", "gelu", "hard_swish", "leaky_relu", "elu"})
_BOUNDED = {"sigmoid": 0.3, "hard_sigmoid": 0.3, "tanh": 0.4, "softmax": 0.0}  # mean square for a normal input
_SIGNED = frozenset({"conv2d", "linear", "batch_norm"})  # random weights: results of either sign
_MOST_NAMED = 3  # mistakes spelled out in one error line


def random_weights(graph: Graph, seed: int = 0) -> Weights:
    """Random float32 weights; the same graph and seed give the same ones.

    He's initialisation (arXiv 1502.01852) with the graph's own statistics: the expected mean square of every tensor is
    propagated, for inputs of unit variance, and each convolution and linear layer is scaled so that it leaves a mean
    square of one before its activation. Biases are small, variances of batch norms positive.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    square = {item.name: 1.0 for item in graph.inputs}
    positive: set[str] = set()  # tensors that hold nothing below zero, which a ReLU leaves as they are
    weights: Weights = {}
    for operator in graph.operators:
        inputs = [square[name] for name in operator.inputs]
        for parameter, shape in graph.parameters(operator).items():
            values = random.standard_normal(shape, dtype=np.float32)
            if parameter == "weight" and operator.kind != "batch_norm":
                size = graph.input_shapes(operator)[0]
                fan_in = math.prod(shape[1:]) * _inside(operator, size, graph.shape(operator.name))
                values *= np.float32(1 / math.sqrt(fan_in * max(inputs[0], 1e-6)))
            elif parameter == "running_var":
                values = np.float32(max(inputs[0], 1e-6)) * (0.75 + 0.5 * random.random(shape, dtype=np.float32))
            elif parameter == "weight":
                values = 1 + np.float32(0.1) * values
            else:
                values *= np.float32(0.05)
            weights[f"{operator.name}.{parameter}"] = values
        rectified = [name in positive for name in operator.inputs]
        square[operator.name] = _mean_square(graph, operator, inputs, any(rectified))
        activation = str(operator.attributes.get("activation", operator.kind))
        if activation == "relu" or (all(rectified) and operator.kind not in _SIGNED):
            positive.add(operator.name)
    return weights


def save_weights(weights: Weights, path: str | Path) -> None:
    """Write a safetensors file.

    Raises:
        UsageError: the file cannot be written.
    """
    import numpy as np
    from safetensors.numpy import save

    try:
        Path(path).write_bytes(save({name: np.ascontiguousarray(array) for name, array in weights.items()}))
    except OSError as error:
        raise UsageError(f"cannot write these weights: {error.strerror}", where=str(path)) from None


def load_weights(graph: Graph, path: str | Path) -> Weights:
    """The weights of `graph` from a safetensors file.

    Raises:
        UsageError: the file cannot be read, or a name, shape or dtype does not fit the graph; the line names them.
    """
    from safetensors import SafetensorError, safe_open

    where = str(path)
    try:
        with safe_open(where, framework="np") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            mistakes = _mistakes(graph, {n: (tuple(s.get_shape()), s.get_dtype()) for n, s in found.items()})
            if mistakes:
                more = f" and {len(mistakes) - _MOST_NAMED} more" if len(mistakes) > _MOST_NAMED else ""
                raise UsageError(
                    f"these weights do not fit {graph.name}: {', '.join(mistakes[:_MOST_NAMED])}{more}", where=where
                )
            return {name: file.get_tensor(name) for name in expected_weights(graph)}
    except SafetensorError as error:
        raise UsageError(f"not a safetensors file: {error}", where=where) from None
    except OSError as error:
        raise UsageError(f"cannot read these weights: {error.strerror or error}", where=where) from None


def expected_weights(graph: Graph) -> dict[str, Shape]:
    """Shapes of a graph's weights by `operator.parameter`, in the order of the operators."""
    return {f"{o.name}.{p}": shape for o in graph.operators for p, shape in graph.parameters(o).items()}


def _mistakes(graph: Graph, found: Mapping[str, tuple[Shape, str]]) -> list[str]:
    expected = expected_weights(graph)
    mistakes = []
    for name, shape in expected.items():
        if name not in found:
            mistakes.append(f"{name} is missing")
        elif found[name][0] != shape:
            mistakes.append(f"{name} has the shape {list(found[name][0])} instead of {list(shape)}")
        elif found[name][1] != "F32":
            mistakes.append(f"{name} is {found[name][1]} instead of F32")
    absent = [name for name in expected if name not in found]
    for name in found:
        if name not in expected:
            mistakes.append(f"{name} is not in the graph" + (f" ({nearest(name, absent)})" if absent else ""))
    return mistakes


def _mean_square(graph: Graph, operator: Operator, inputs: list[float], rectified: bool) -> float:
    """Expected mean square of an operator's output, its inputs taken as independent; rectified: one is positive."""
    if operator.kind in _SIGNED:
        result, rectified = 1.0, False
    elif operator.kind == "add":
        result = sum(inputs)
    elif operator.kind == "mul":
        result = math.prod(inputs)
    elif operator.kind == "concat":
        channels = [shape[1] for shape in graph.input_shapes(operator)]
        result = sum(c * s for c, s in zip(channels, inputs, strict=True)) / sum(channels)
    else:
        result = _activated(operator.kind, inputs[0], rectified)
    return _activated(str(operator.attributes.get("activation", "none")), result, rectified)


def _activated(kind: str, square: float, rectified: bool) -> float:
    if kind in _HALVING:
        return square if rectified else square / 2
    return _BOUNDED.get(kind, square)


def _inside(operator: Operator, size: Shape, output: Shape) -> float:
    """Mean share of a convolution's taps that read the input; in small images many read the padding."""
    if operator.kind != "conv2d":
        return 1.0
    return math.prod(_inside_axis(operator.attributes, axis, size[2 + axis], output[2 + axis]) for axis in (0, 1))


def _inside_axis(attributes: Attributes, axis: int, length: int, outputs: int) -> float:
    values = (attributes[name] for name in ("kernel", "stride", "padding", "dilation"))
    kernel, stride, padding, dilation = (value[axis] for value in values if isinstance(value, tuple))
    starts = range(-padding, outputs * stride - padding, stride)
    read = sum(0 <= start + tap * dilation < length for start in starts for tap in range(kernel))
    return max(read, 1) / (outputs * kernel)
