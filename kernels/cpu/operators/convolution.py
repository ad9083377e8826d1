"""Convolutions that are prepared once: weights in oneDNN's own format, its primitive made, the activation fused.

torch computes convolutions with oneDNN, too, but makes the primitive anew in every call. That is 30 µs for the smallest
ones in a row and 100 µs in a network, where others have had the caches in between; here a call costs 5 µs. The
kernels, and their times, are the same. Who lacks the library gets torch's (`torch_convolution.py`).

What is prepared depends on the number of threads: it has to be made on as many as it will run on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor

from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cpu.operators import onednn as dnnl
from iosfarm.kernels.cpu.operators.onednn import FUSED, Dims, Handle, OneDnn, OneDnnError, onednn
from iosfarm.kernels.cpu.operators.pointwise import pointwise_into_part
from iosfarm.kernels.cpu.operators.prepared import Prepared
from iosfarm.kernels.cpu.operators.primitive import Primitive, constant, packed
from iosfarm.kernels.cpu.operators.torch_convolution import packed_convolution
from iosfarm.kernels.torch_operators import IN_PLACE


def prepared_convolution(
    attributes: Attributes, weights: Mapping[str, Tensor], shape: Shape
) -> Callable[[Tensor], Tensor] | None:
    """A conv2d with its activation for inputs of `shape`, channels last; None where only torch has it.

    Not for two threads at a time. Weights are copied. ValueError for an input of another size or dtype.
    """
    library, activation = onednn(), str(attributes["activation"])
    weight, bias = weights["weight"], weights["bias"] if attributes["bias"] else None
    if library is None:
        return packed_convolution(attributes, weights, shape)
    plain = attributes if activation in FUSED else {**attributes, "activation": "none"}
    try:
        convolve = _primitive(library, plain, weight, bias, shape)
    except OneDnnError:  # it has no such convolution, for instance in half precision on an older CPU
        return packed_convolution(attributes, weights, shape)
    after = IN_PLACE[activation]
    if activation in FUSED or after is None:
        return convolve
    return lambda x: after(convolve(x))


def _primitive(library: OneDnn, attributes: Attributes, weight: Tensor, bias: Tensor | None, shape: Shape) -> Primitive:
    made = _description(library, attributes, weight, bias, shape)
    constants = {dnnl.WEIGHTS: packed(library, made, _grouped(attributes, weight))}
    if bias is not None:
        constants[dnnl.BIAS] = constant(library, bias)
    result_shape = _result_shape(attributes, weight, shape)

    def part(pitch: int) -> Prepared | None:
        return pointwise_into_part(library, attributes, weight, bias, shape, pitch)

    source, result = library.image(shape, weight.dtype), library.image(result_shape, weight.dtype)
    return Primitive(library, made, [(dnnl.SRC, source, shape)], (result, result_shape), weight.dtype, constants, part)


def _description(library: OneDnn, attributes: Attributes, weight: Tensor, bias: Tensor | None, shape: Shape) -> Handle:
    """What oneDNN will do (`dnnl_primitive_desc_t`); weights in the format that it likes best."""
    result_shape = _result_shape(attributes, weight, shape)
    setting = library.setting(FUSED[str(attributes["activation"])])
    padding = Dims(*_pair(attributes, "padding"))
    return library.make(
        "convolution_forward_primitive_desc_create",
        library.engine,
        dnnl.INFERENCE,
        dnnl.DIRECT,
        library.image(shape, weight.dtype),
        library.described(_grouped(attributes, weight).shape, None, weight.dtype),
        None if bias is None else library.described(bias.shape, (1,), weight.dtype),
        library.image(result_shape, weight.dtype),
        Dims(*_pair(attributes, "stride")),
        Dims(*(step - 1 for step in _pair(attributes, "dilation"))),
        padding,
        padding,
        setting,
    )


def _grouped(attributes: Attributes, weight: Tensor) -> Tensor:
    """Weights with an axis of groups in front, where there are several: oneDNN tells them apart by it."""
    groups = cast("int", attributes["groups"])
    return weight if groups == 1 else weight.contiguous().view(groups, -1, *weight.shape[1:])


def _result_shape(attributes: Attributes, weight: Tensor, shape: Shape) -> Shape:
    sizes = (
        (size + 2 * padding - step * (kernel - 1) - 1) // stride + 1
        for size, padding, step, kernel, stride in zip(
            shape[2:],
            _pair(attributes, "padding"),
            _pair(attributes, "dilation"),
            weight.shape[2:],
            _pair(attributes, "stride"),
            strict=True,
        )
    )
    return (shape[0], weight.shape[0], *sizes)


def _pair(attributes: Attributes, name: str) -> tuple[int, int]:
    return cast("tuple[int, int]", attributes[name])
