"""Convolutions of single pixels as products of matrices, whose result may have any distance between its rows.

So they write straight into their channels of a concatenation. oneDNN's convolutions do not: for a result that is not
dense it has none but the plainest, a hundred times slower.
"""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor

from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cpu.operators import onednn as dnnl
from iosfarm.kernels.cpu.operators.onednn import FUSED, OneDnn, OneDnnError
from iosfarm.kernels.cpu.operators.primitive import Primitive, constant, packed


def pointwise_into_part(
    library: OneDnn, attributes: Attributes, weight: Tensor, bias: Tensor | None, shape: Shape, pitch: int
) -> Primitive | None:
    """A conv2d for images of `shape`, its activation one of `FUSED`, for results among `pitch` channels; None where it
    looks at more than single pixels or skips some.
    """
    steps, padding = (cast("tuple[int, int]", attributes[name]) for name in ("stride", "padding"))
    if tuple(weight.shape[2:]) != (1, 1) or attributes["groups"] != 1 or steps != (1, 1) or padding != (0, 0):
        return None
    dtype, pixels = weight.dtype, shape[0] * math.prod(shape[2:])
    made, read = weight.shape[:2]
    source = library.described((pixels, read), (read, 1), dtype)
    result = library.described((pixels, made), (pitch, 1), dtype)
    try:
        product = library.make(
            "matmul_primitive_desc_create",
            library.engine,
            source,
            library.described((read, made), None, dtype),
            None if bias is None else library.described((1, made), (made, 1), dtype),
            result,
            library.setting(FUSED[str(attributes["activation"])]),
        )
    except OneDnnError:
        return None
    constants = {dnnl.WEIGHTS: packed(library, product, weight.reshape(made, read).T)}
    if bias is not None:
        constants[dnnl.BIAS] = constant(library, bias.view(1, made))
    return Primitive(
        library, product, [(dnnl.SRC, source, shape)], (result, (shape[0], made, *shape[2:])), dtype, constants
    )
