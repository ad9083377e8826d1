"""A block with weights and an input, and what it makes of that."""

from __future__ import annotations

import numpy as np
from conformance import block
from numerics_cases import graph_weights, relative_error

from iosfarm.kernels.reference import run_graph
from iosfarm.kernels.runtime import Array

WEIGHTS = graph_weights(block(), np.random.default_rng(3))
X = np.random.default_rng(4).standard_normal((1, 8, 14, 14)).astype(np.float32)
EXPECTED = run_graph(block(), WEIGHTS, [X])


def close(outputs: object, expected: list[Array] = EXPECTED, tolerance: float = 1e-5) -> bool:
    assert isinstance(outputs, tuple)
    assert len(outputs) == len(expected)
    return all(relative_error(np.asarray(o), e) <= tolerance for o, e in zip(outputs, expected, strict=True))
