"""What `iosfarm.compile` can be given: a graph and its weights, and how it is called."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from iosfarm.deploy.signatures import GraphSignature, ModuleSignature, Signature
from iosfarm.frontends.imported import Imported
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.zoo.load import load
from iosfarm.zoo.weights import load_weights, random_weights

if TYPE_CHECKING:
    from iosfarm.kernels.runtime import Weights

Examples = torch.Tensor | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A network to compile."""

    graph: Graph
    weights: Weights
    signature: Signature
    notices: tuple[str, ...] = ()


def source_of(model: object, weights: Weights | str | Path | None, examples: Examples | None) -> Source:
    """A model as `iosfarm.compile` takes it, of the batch size and dtype of its examples.

    Raises:
        UsageError: it cannot be loaded, or the weights do not fit it.
    """
    imported = _imported(model, examples)
    own: Weights | None = None
    notices: tuple[str, ...] = ()
    if imported is None:
        if examples is not None:
            raise UsageError("example inputs, but the model is no torch module", hint="leave example_inputs out")
        graph = load(model)
        signature: Signature = GraphSignature(graph)
    else:
        recorded = model.example_inputs if isinstance(model, ExportedProgram) and examples is None else examples
        graph, own, notices = _like(imported.graph, recorded), imported.weights, imported.notices
        forward = model.forward if isinstance(model, torch.nn.Module) else None
        signature = ModuleSignature(graph, imported.signature, forward)
    if isinstance(weights, str | Path):
        weights = load_weights(graph, weights)
    if weights is None and own is None:
        warnings.warn(f"{graph.name} is compiled with random weights: give it some with weights=", stacklevel=3)
        own = random_weights(graph)
    chosen = own if weights is None else weights
    assert chosen is not None
    return Source(graph, chosen, signature, notices)


def _imported(model: object, examples: Examples | None) -> Imported | None:
    """What a front end makes of a model, None where it is for none."""
    if isinstance(model, Imported):
        return model
    if isinstance(model, torch.nn.Module | ExportedProgram):
        from iosfarm.frontends.torch import import_module

        if examples is None and isinstance(model, torch.nn.Module):
            hint = "give example_inputs=, one tensor for each argument of forward"
            raise UsageError("a torch module without example inputs", where=type(model).__name__, hint=hint)
        return import_module(model, examples)
    suffix = Path(model).suffix.lower() if isinstance(model, str | Path) else ""
    if suffix == ".pt2":
        from iosfarm.frontends.torch import import_archive

        return import_archive(str(model), examples)
    if suffix == ".onnx" and examples is None:
        from iosfarm.frontends.onnx import import_file

        return import_file(str(model))
    return None


def _like(graph: Graph, examples: object) -> Graph:
    """A graph for the batch size and the dtype of the first tensor among examples."""
    for leaf in torch.utils._pytree.tree_leaves(examples):
        if isinstance(leaf, torch.Tensor):
            return graph.bind(batch=leaf.shape[0], dtype=str(leaf.dtype).removeprefix("torch."))
    return graph
