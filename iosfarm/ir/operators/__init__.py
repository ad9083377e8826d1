"""The operators that iosfarm knows. To add one: a spec here, its execution in `kernels/`, a numerics case in tests."""

from __future__ import annotations

import difflib

from iosfarm.ir.errors import GraphError
from iosfarm.ir.operators import compute, elementwise, layout, opaque, pooling, reducing
from iosfarm.ir.operators.spec import (
    ACTIVATIONS,
    FUSED_ACTIVATIONS,
    Attribute,
    Attributes,
    OperatorSpec,
    Shape,
)

__all__ = [
    "ACTIVATIONS",
    "FUSED_ACTIVATIONS",
    "SPECS",
    "Attribute",
    "Attributes",
    "OperatorSpec",
    "Shape",
    "spec",
]

SPECS: dict[str, OperatorSpec] = {
    item.kind: item
    for item in (
        *compute.SPECS,
        *pooling.SPECS,
        *elementwise.SPECS,
        *layout.SPECS,
        *reducing.SPECS,
        *opaque.SPECS,
    )
}


def spec(kind: str, where: str = "") -> OperatorSpec:
    """The spec of an operator kind.

    Raises:
        GraphError: the kind is unknown; the line names the nearest one that is known.
    """
    found = SPECS.get(kind)
    if found is None:
        near = difflib.get_close_matches(kind.lower(), SPECS, 1, cutoff=0.5)
        hint = f"the nearest supported one is {near[0]}" if near else f"supported: {', '.join(sorted(SPECS))}"
        raise GraphError(f"unknown operator {kind!r}", where=where, hint=hint)
    return found
