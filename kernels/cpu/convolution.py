"""Convolutions that are prepared once: weights in oneDNN's own format, its primitive made, the activation fused.

torch computes convolutions with oneDNN, too, but makes the primitive anew in every call. That is 30 µs for the smallest
ones in a row and 100 µs in a network, where others have had the caches in between; here a call costs 5 µs. The
kernels, and their times, are the same. Who lacks the library gets torch's (`torch_convolution.py`).

What is prepared depends on the number of threads: it has to be made on as many as it will run on.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cpu import onednn as dnnl
from iosfarm.kernels.cpu.onednn import FUSED, Argument, Dims, Handle, OneDnn, OneDnnError, onednn
from iosfarm.kernels.cpu.primitive import function_of
from iosfarm.kernels.cpu.torch_convolution import packed_convolution
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


def _primitive(
    library: OneDnn, attributes: Attributes, weight: Tensor, bias: Tensor | None, shape: Shape
) -> Callable[..., Tensor]:
    made = _description(library, attributes, weight, bias, shape)
    constants = {dnnl.WEIGHTS: _packed(library, made, attributes, weight)}
    if bias is not None:
        copy = bias.clone()
        described = library.described(copy.shape, (1,), copy.dtype)
        constants[dnnl.BIAS] = library.make("memory_create", described, library.engine, copy.data_ptr(), kept=copy)
    result_shape = _result_shape(attributes, weight, shape)
    return function_of(library, made, shape, result_shape, weight.dtype, constants)


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


def _packed(library: OneDnn, made: Handle, attributes: Attributes, weight: Tensor) -> Handle:
    """A copy of the weights as the convolution wants them."""
    plain = _grouped(attributes, weight)
    wanted = library.call("primitive_desc_query_md", made, dnnl.WEIGHTS_OF, 0)
    copy = torch.empty(library.call("memory_desc_get_size", wanted), dtype=torch.uint8)
    memory = library.make("memory_create", wanted, library.engine, copy.data_ptr(), kept=copy)
    given = library.described(plain.shape, plain.stride(), weight.dtype)
    source = library.make("memory_create", given, library.engine, plain.data_ptr())
    reorder = library.make(
        "primitive_create",
        library.make("reorder_primitive_desc_create", given, library.engine, wanted, library.engine, None),
    )
    stream = library.make("stream_create", library.engine, dnnl.IN_ORDER)
    table = (Argument * 2)(Argument(dnnl.SRC, source.address), Argument(dnnl.DST, memory.address))
    library.check("primitive_execute", library.execute(reorder, stream, len(table), ctypes.addressof(table)))
    return memory


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
