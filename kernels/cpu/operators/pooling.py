"""Pooling by oneDNN: torch's max pool also makes the places of the maxima, eight bytes for each.

Channels last, two cores with AVX-512, minima in µs, torch against oneDNN: max 3x3/2 of 96x111x111 502 against 212, of
256x55x55 415 against 155; average 3x3/1 of 288x35x35 183 against 140. The maximum of nothing but NaN or -inf is
float32's lowest number here.
"""

from __future__ import annotations

from typing import cast

import torch

from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cpu.operators import onednn as dnnl
from iosfarm.kernels.cpu.operators.onednn import Dims, OneDnnError, onednn
from iosfarm.kernels.cpu.operators.primitive import Primitive


def prepared_pool(
    kind: str, attributes: Attributes, shape: Shape, result_shape: Shape, dtype: torch.dtype
) -> Primitive | None:
    """A max_pool or avg_pool of images of `shape`; None where oneDNN has none that computes the same."""
    library = onednn()
    if library is None:
        return None
    kernel, stride, padding = (cast("tuple[int, int]", attributes[name]) for name in ("kernel", "stride", "padding"))
    beyond = [
        (made - 1) * step + width - size - before
        for made, step, width, size, before in zip(result_shape[2:], stride, kernel, shape[2:], padding, strict=True)
    ]
    if kind == "max_pool":
        algorithm = dnnl.MAX
    else:
        algorithm = dnnl.AVERAGE_WITH_PADDING if attributes["count_include_pad"] else dnnl.AVERAGE
        if algorithm == dnnl.AVERAGE_WITH_PADDING and any(b > p for b, p in zip(beyond, padding, strict=True)):
            return None  # with ceil_mode, what lies beyond the padding is not counted
    if any(b >= k for b, k in zip(beyond, kernel, strict=True)):
        return None
    source, result = library.image(shape, dtype), library.image(result_shape, dtype)
    sizes = [Dims(*values) for values in (stride, kernel, (0, 0), padding, [max(0, b) for b in beyond])]
    try:
        made = library.make(
            "pooling_forward_primitive_desc_create",
            *(library.engine, dnnl.INFERENCE, algorithm, source, result, *sizes, library.setting(None)),
        )
    except OneDnnError:
        return None
    return Primitive(library, made, [(dnnl.SRC, source, shape)], (result, result_shape), dtype, {})
