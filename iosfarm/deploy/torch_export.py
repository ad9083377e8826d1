"""Graphs as plain torch modules: layers with weights, functions for the rest."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import fx

from iosfarm.deploy import torch_operators, torch_tensors
from iosfarm.deploy.torch_operators import ACTIVATIONS
from iosfarm.deploy.torch_writer import ModuleWriter
from iosfarm.farm.output_files import OutputError
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.kernels.runtime import Weights

_WRITERS = {**torch_operators.WRITERS, **torch_tensors.WRITERS}

KINDS = frozenset(_WRITERS)
"""The operators that can be written."""


def to_module(graph: Graph, weights: Weights) -> fx.GraphModule:
    """A module in evaluation mode that takes the graph's inputs, NCHW, and returns its output, or a tuple of several.

    It is made of `nn.Conv2d`, `nn.Linear`, `nn.BatchNorm2d` and functions: `print(module.code)` shows it, `state_dict`
    has the weights by operator, and `torch.export` and `torch.compile` take it.

    Raises:
        UsageError: an operator cannot be exported. KeyError: a weight is missing.
    """
    writer = ModuleWriter(graph, weights)
    for position, operator in enumerate(graph.operators):
        if operator.kind not in KINDS:
            where = f"{graph.name}: operator {position} {operator.name!r}"
            raise UsageError(f"{operator.kind} cannot be exported to torch", where=where)
        result = _WRITERS[operator.kind](writer, operator, [writer.nodes[name] for name in operator.inputs])
        activation = str(operator.attributes.get("activation", "none"))
        writer.nodes[operator.name] = result if activation == "none" else writer.call(ACTIVATIONS[activation], result)
    return writer.module()


def save_program(graph: Graph, weights: Weights, path: Path) -> None:
    """Write the graph as an exported program (`.pt2`), which `torch.export.load` reads without any code of ours.

    Raises:
        OutputError: it cannot be written. UsageError, KeyError: as `to_module`.
    """
    dtype = getattr(torch, graph.dtype)
    examples = tuple(torch.zeros(graph.shape(item.name), dtype=dtype) for item in graph.inputs)
    program = torch.export.export(to_module(graph, weights), examples)
    try:
        with path.open("wb") as file:
            torch.export.save(program, file)
    except OSError as error:
        raise OutputError(f"cannot write the program: {error.strerror or error}", where=str(path)) from error
