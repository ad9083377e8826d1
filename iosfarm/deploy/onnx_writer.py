"""What ONNX graphs are written with: nodes, constants, weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from iosfarm.ir.graph import Graph, Operator
from iosfarm.kernels.runtime import Array, Weights

if TYPE_CHECKING:
    import onnx


class NodeWriter:
    """The nodes and constants of one ONNX graph. Float constants get `dtype`."""

    def __init__(self, graph: Graph, weights: Weights, dtype: np.dtype[np.generic]) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = weights
        self._dtype = dtype
        self._constants: dict[str, str] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node, which is named like its output; returns that."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def floats(self, values: object) -> str:
        """The name of a constant of the graph's dtype."""
        return self._constant(np.asarray(values, dtype=np.float64).astype(self._dtype))

    def integers(self, values: Sequence[int]) -> str:
        """The name of a constant of int64."""
        return self._constant(np.array(values, dtype=np.int64))

    def parameters(self, operator: Operator, *names: str) -> list[str]:
        """The names of an operator's weights, those that it has; each is written once."""
        has = self.graph.parameters(operator)
        return [self.parameter(operator, name) for name in names if name in has]

    def parameter(self, operator: Operator, name: str, arranged: Callable[[Array], Array] | None = None) -> str:
        """The name of one of an operator's weights, which is written in another arrangement if one is given."""
        name = f"{operator.name}.{name}"
        array = self._weights[name].astype(self._dtype)
        self._initializer(name, array if arranged is None else arranged(array))
        return name

    def _constant(self, array: Array) -> str:
        text = f"{array.dtype}{list(array.shape)}{array.tobytes().hex()}"
        if text not in self._constants:
            self._constants[text] = name = f"constant/{len(self._constants)}"
            self._initializer(name, array)
        return self._constants[text]

    def _initializer(self, name: str, array: Array) -> None:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))


Writer = Callable[[NodeWriter, Operator, str], None]
"""Writes an operator so that its result has the given name, but for a fused activation."""

Function = Callable[[NodeWriter, Operator, str, str], str]
"""Writes what an operator does to one tensor: source, result."""


def alone(function: Function) -> Writer:
    """A function of one tensor as an operator of its own."""

    def write(w: NodeWriter, o: Operator, output: str) -> None:
        function(w, o, o.inputs[0], output)

    return write


def plain(kind: str, **attributes: float) -> Function:
    """What ONNX has as it is."""
    return lambda w, _, source, output: w.node(kind, [source], output, **attributes)


def sliced(w: NodeWriter, source: str, output: str, start: int, stop: int, axis: int, step: int = 1) -> str:
    """Part of a tensor along one axis."""
    return w.node("Slice", [source, *(w.integers([number]) for number in (start, stop, axis, step))], output)


def ints(operator: Operator, name: str) -> tuple[int, ...]:
    """An attribute of several integers."""
    return cast("tuple[int, ...]", operator.attributes[name])


def number(operator: Operator, name: str) -> float:
    """An attribute that is a number."""
    return cast("float", operator.attributes[name])
