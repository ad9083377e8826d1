"""Weights for a network of which only the latency and the numerics matter."""

from __future__ import annotations

import math

import numpy as np

from iosfarm.ir.graph import Graph
from iosfarm.kernels.runtime import Array


def random_weights(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Normal values that keep the size of what they are applied to (He et al. 2015); variances are positive."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for operator in graph.operators:
        for name, shape in graph.parameters(operator).items():
            values = rng.standard_normal(shape, np.float32)
            if name == "running_var":
                values = np.abs(values) + np.float32(0.5)
            elif name == "weight" and len(shape) > 1:
                values *= np.float32(math.sqrt(2 / math.prod(shape[1:])))
            else:
                values *= np.float32(0.1)
            weights[f"{operator.name}.{name}"] = values
    return weights
