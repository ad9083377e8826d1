"""What torch modules are written with: an fx graph, and the layers that it calls."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from iosfarm.ir.graph import Graph, Operator
from iosfarm.kernels.runtime import Weights


class ModuleWriter:
    """An fx graph under construction, and the layers that it calls."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph = graph
        self._weights = weights
        self._dtype: torch.dtype = getattr(torch, graph.dtype)
        self._layers = nn.Module()
        self._code = fx.Graph()
        self.nodes = {item.name: self._code.placeholder(self._identifier(item.name)) for item in graph.inputs}

    def call(self, function: Callable[..., Tensor], *arguments: object, **named: object) -> fx.Node:
        """Append a call of a function."""
        return self._code.call_function(function, cast("tuple[fx.node.Argument, ...]", arguments), named)  # type: ignore[arg-type]

    def layer(self, operator: Operator, layer: nn.Module, *sources: fx.Node) -> fx.Node:
        """Append a call of a layer that was made without memory; it gets the operator's weights."""
        return self._code.call_module(self._added(operator, layer), sources)

    def weight(self, operator: Operator) -> fx.Node:
        """The operator's one weight, as a tensor for functions."""
        (name,) = self.graph.parameters(operator)
        layer = nn.Module()
        layer.register_parameter(name, nn.Parameter(torch.empty(0, device="meta")))
        return self._code.get_attr(f"{self._added(operator, layer)}.{name}")

    def _added(self, operator: Operator, layer: nn.Module) -> str:
        state = {name: self._tensor(f"{operator.name}.{name}") for name in self.graph.parameters(operator)}
        for name, tensor in state.items():
            if name in dict(layer.named_buffers()):
                layer.register_buffer(name, tensor)
            else:
                layer.register_parameter(name, nn.Parameter(tensor))
        name = self._identifier(operator.name)
        while hasattr(self._layers, name):
            name += "_"
        self._layers.add_module(name, layer)
        return name

    def module(self) -> fx.GraphModule:
        """What was written."""
        outputs = [self.nodes[name] for name in self.graph.outputs]
        self._code.output(outputs[0] if len(outputs) == 1 else tuple(outputs))
        self._code.lint()
        return fx.GraphModule(self._layers, self._code, self._identifier(self.graph.name)).eval()

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self._weights[name])).to(self._dtype)

    @staticmethod
    def _identifier(name: str) -> str:
        text = re.sub(r"\W", "_", name, flags=re.ASCII)
        return text if text.isidentifier() and not keyword.iskeyword(text) else f"_{text}"


Writer = Callable[[ModuleWriter, Operator, Sequence[fx.Node]], fx.Node]
"""Writes an operator, but for a fused activation; returns its result."""


def ints(operator: Operator, name: str) -> tuple[int, ...]:
    """An attribute of several integers."""
    return cast("tuple[int, ...]", operator.attributes[name])


def pair(operator: Operator, name: str) -> tuple[int, int]:
    """An attribute of two integers, (vertical, horizontal)."""
    return cast("tuple[int, int]", operator.attributes[name])


def integer(operator: Operator, name: str) -> int:
    """An attribute that is an integer."""
    return cast("int", operator.attributes[name])


def number(operator: Operator, name: str) -> float:
    """An attribute that is a number."""
    return cast("float", operator.attributes[name])


def plain(function: Callable[..., Tensor]) -> Writer:
    """A function of the operator's inputs alone."""
    return lambda w, _, sources: w.call(function, *sources)
