"""What `iosfarm.compile` can be given: a graph and its weights, and how it is called."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.deploy.model import GraphSignature, Signature
from iosfarm.ir.graph import Graph
from iosfarm.zoo.load import load
from iosfarm.zoo.weights import load_weights, random_weights

if TYPE_CHECKING:
    from iosfarm.kernels.runtime import Weights


@dataclass(frozen=True)
class Source:
    """A network to compile."""

    graph: Graph
    weights: Weights
    signature: Signature
    notices: tuple[str, ...] = ()


def source_of(model: object, weights: Weights | str | Path | None, example_inputs: Sequence[object] | None) -> Source:
    """A model as `iosfarm.compile` takes it.

    Raises:
        UsageError: it cannot be loaded, or the weights do not fit it.
    """
    graph = load(model)
    if weights is None:
        warnings.warn(f"{graph.name} is compiled with random weights: give it some with weights=", stacklevel=3)
        weights = random_weights(graph)
    elif isinstance(weights, str | Path):
        weights = load_weights(graph, weights)
    return Source(graph, weights, GraphSignature(graph))
