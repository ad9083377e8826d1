"""Every operator in terms of torch, bound to its attributes and weights.

The float64 reference and the CPU runtime share these, so that there is one place that says what an operator means. The
files are those of `iosfarm.ir.operators`.
"""

from __future__ import annotations

from iosfarm.ir.operators import Attributes
from iosfarm.kernels.opaque import bind_program
from iosfarm.kernels.torch_operators import compute, elementwise, layout, pooling, reducing
from iosfarm.kernels.torch_operators.binding import Binder, Bound, Function
from iosfarm.kernels.torch_operators.elementwise import IN_PLACE, UNARY_FUNCTIONS

__all__ = ["BINDERS", "IN_PLACE", "UNARY_FUNCTIONS", "Function", "bind"]


def _opaque(a: Attributes, w: Bound) -> Function:
    return bind_program(str(a["program"]), w)


BINDERS: dict[str, Binder] = {
    **compute.BINDERS,
    **pooling.BINDERS,
    **elementwise.BINDERS,
    **layout.BINDERS,
    **reducing.BINDERS,
    "opaque": _opaque,
}


def bind(kind: str, attributes: Attributes, weights: Bound) -> Function:
    """The function of one operator; KeyError for an unknown kind or a missing weight.

    A fused activation is applied in place, which is safe because the operator has just made that tensor.
    """
    function = BINDERS[kind](attributes, weights)
    activation = IN_PLACE[str(attributes.get("activation", "none"))]
    if activation is None:
        return function
    apply = activation
    return lambda *inputs: apply(function(*inputs))
