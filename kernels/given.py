"""Weights that the user gave, checked; random ones for those who compute numbers without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from iosfarm.ir.errors import UsageError
from iosfarm.ir.operators import Shape
from iosfarm.ir.stage import Stage
from iosfarm.kernels.runtime import Array


def given_parameters(expected: Mapping[str, Shape], given: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """An operator's weights from the user's; names in `given` begin with `prefix`.

    Raises:
        UsageError: one is missing or of another shape.
    """
    result = {}
    for name, shape in expected.items():
        array = given.get(prefix + name)
        if array is None:
            raise UsageError(f"the weight {prefix}{name} is missing")
        if tuple(array.shape) != shape:
            raise UsageError(f"the weight {prefix}{name} has the shape {list(array.shape)}, not {list(shape)}")
        result[name] = array
    return result


def given_stage_parameters(stage: Stage, weights: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """Those of each of a stage's operators.

    Raises:
        UsageError: there are too few or too many, one is missing or of another shape.
    """
    operators = list(stage.operators)
    if len(weights) != len(operators):
        raise UsageError(f"weights for {len(weights)} operators; the stage has {len(operators)}")
    return [given_parameters(stage.parameters(o), given, "") for o, given in zip(operators, weights, strict=True)]


def random_stage_parameters(stage: Stage) -> list[dict[str, Array]]:
    """Values that keep activations near 1 in size, always the same; a variance is positive."""
    rng = np.random.default_rng(0)
    result: list[dict[str, Array]] = []
    for operator in stage.operators:
        values: dict[str, Array] = {}
        for name, shape in stage.parameters(operator).items():
            scale = (np.prod(shape[1:]) or 1.0) ** -0.5
            values[name] = rng.uniform(0.5, 2.0, shape) if name == "running_var" else rng.normal(0, scale, shape)
        result.append(values)
    return result
