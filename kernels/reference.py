"""Plain execution of graphs and stages, one operator after the other: the oracle that runtimes are tested against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from iosfarm.ir.graph import Graph
from iosfarm.ir.stage import Stage
from iosfarm.kernels.runtime import Array, Weights
from iosfarm.kernels.torch_operators import bind


def _tensor(values: Array, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


def run_graph(
    graph: Graph, weights: Weights, inputs: Sequence[Array], dtype: torch.dtype = torch.float64
) -> list[Array]:
    """The graph's outputs, NCHW; inputs in the order of `graph.inputs`. KeyError where a weight is missing."""
    values = {item.name: _tensor(array, dtype) for item, array in zip(graph.inputs, inputs, strict=True)}
    with torch.inference_mode():
        for operator in graph.operators:
            bound = {name: _tensor(weights[f"{operator.name}.{name}"], dtype) for name in graph.parameters(operator)}
            function = bind(operator.kind, operator.attributes, bound)
            values[operator.name] = function(*(values[name] for name in operator.inputs))
    return [values[name].numpy() for name in graph.outputs]


def run_stage(
    stage: Stage,
    weights: Sequence[Mapping[str, Array]],
    inputs: Sequence[Array],
    dtype: torch.dtype = torch.float64,
) -> list[Array]:
    """One output a unit, NCHW, in the order of `stage.units`; weights as `Runtime.prepare` takes them.

    How a stage is grouped or merged does not change what it computes, so it is ignored here.
    """
    tensors = [_tensor(array, dtype) for array in inputs]
    values: list[torch.Tensor] = []
    with torch.inference_mode():
        for operator, given in zip(stage.operators, weights, strict=True):
            bound = {name: _tensor(array, dtype) for name, array in given.items()}
            arguments = [values[r] if r >= 0 else tensors[-1 - r] for r in operator.references]
            values.append(bind(operator.kind, operator.attributes, bound)(*arguments))
    return [values[unit.output].numpy() for unit in stage.units]
