"""Those of torch's operators that write straight into memory that is given, as `Prepared`.

Not all with an `out=` do: many compute a result and copy it. Those here take no memory of their own; a test checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cpu.operators.concatenation import Concatenation
from iosfarm.kernels.cpu.operators.prepared import Prepared, Source, Step, Values
from iosfarm.kernels.cpu.operators.sums import prepared_sum
from iosfarm.kernels.torch_operators import IN_PLACE, Function

Write = Callable[..., object]
"""(inputs …, out=result)"""

_aten = torch.ops.aten
ELEMENTWISE: Mapping[str, Write] = {
    # torch.relu has no such form; this one is the same, NaN included.
    "relu": lambda x, out: torch.clamp_min(x, 0, out=out),
    "relu6": lambda x, out: _aten.hardtanh.out(x, 0.0, 6.0, out=out),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": _aten.silu.out,
    "gelu": _aten.gelu.out,
    "hard_sigmoid": _aten.hardsigmoid.out,
    "hard_swish": _aten.hardswish.out,
    "sub": torch.sub,
    "div": torch.div,
}


class OutFunction:
    """See `Prepared`. write: the operator; function: the same with a result of its own; after: applied to the result,
    in place. Results may be of any strides.
    """

    scratch = 0

    def __init__(self, function: Function, write: Write, after: Function | None = None) -> None:
        self._function, self._write, self._after = function, write, after

    def __call__(self, *inputs: Tensor) -> Tensor:
        """See `Prepared.__call__`."""
        return self._function(*inputs)

    def step(self, sources: Sequence[Source], result: Tensor, scratch: Tensor | None) -> Step:
        """See `Prepared.step`."""
        write, after, slots = self._write, self._after, [source.slot for source in sources]

        def step(values: Values) -> None:
            write(*[values[slot] for slot in slots], out=result)
            if after is not None:
                after(result)

        return step

    def into_part(self, pitch: int) -> Prepared:
        """See `Prepared.into_part`."""
        return self


def prepared_elementwise(
    kind: str,
    attributes: Attributes,
    shapes: Sequence[Shape],
    result_shape: Shape,
    function: Function,
    dtype: torch.dtype,
) -> Prepared | None:
    """An operator that computes each value from those in the same place, or a concatenation; None for others.

    shapes: of its inputs. function: the same with a result of its own.
    """
    activation = str(attributes.get("activation", "none"))
    after = IN_PLACE[activation]
    if kind == "concat":
        axis = cast("int", attributes.get("axis", 1))
        return Concatenation(axis, shapes, dtype)
    if activation == "gelu":
        return None  # torch has none in place
    if kind in ELEMENTWISE:
        return OutFunction(function, ELEMENTWISE[kind], after)
    if kind in ("add", "mul") and len(shapes) > 1:
        if len(shapes) > 2 and any(shape != result_shape for shape in shapes):
            return None
        by_torch = OutFunction(function, _chain(torch.add if kind == "add" else torch.mul), after)
        if kind == "add" and len(result_shape) == 4 and all(shape == result_shape for shape in shapes):
            return prepared_sum(len(shapes), activation, result_shape, dtype, lambda _: by_torch) or by_torch
        return by_torch
    return None


def _chain(two: Callable[..., Tensor]) -> Write:
    def write(first: Tensor, second: Tensor, *others: Tensor, out: Tensor) -> None:
        two(first, second, out=out)
        for other in others:
            two(out, other, out=out)

    return write
