"""Weights that the user gave, checked."""

from __future__ import annotations

from collections.abc import Mapping

from iosfarm.ir.errors import UsageError
from iosfarm.ir.operators import Shape
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
