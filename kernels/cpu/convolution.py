"""Convolutions that are prepared once: weights in oneDNN's own format, its primitive made, the activation fused.

torch computes convolutions with oneDNN, too, but makes the primitive anew in every call. That is 30 µs for the smallest
ones in a row and 100 µs in a network, where others have had the caches in between; here a call costs 5 µs. The
kernels, and their times, are the same. Who lacks the library gets torch's (`torch_convolution.py`).

What is prepared depends on the number of threads: it has to be made on as many as it will run on.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cpu import onednn as dnnl
from iosfarm.kernels.cpu.onednn import Argument, Dims, Handle, OneDnn, OneDnnError, onednn
from iosfarm.kernels.cpu.torch_convolution import packed_convolution
from iosfarm.kernels.torch_operators import IN_PLACE

_FUSED: Mapping[str, tuple[int, float, float] | None] = {
    "none": None,
    "relu": (dnnl.RELU, 0.0, 0.0),
    "relu6": (dnnl.CLIP, 0.0, 6.0),
    "sigmoid": (dnnl.LOGISTIC, 0.0, 0.0),
    "tanh": (dnnl.TANH, 0.0, 0.0),
    "silu": (dnnl.SWISH, 1.0, 0.0),
    "hard_sigmoid": (dnnl.HARD_SIGMOID, 1 / 6, 0.5),
    "hard_swish": (dnnl.HARD_SWISH, 1 / 6, 0.5),
}
"""Our activations as oneDNN's with their two numbers; gelu is left to torch, whose error function is exact."""


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
    plain = attributes if activation in _FUSED else {**attributes, "activation": "none"}
    try:
        convolve = _primitive(library, plain, weight, bias, shape)
    except OneDnnError:  # it has no such convolution, for instance in half precision on an older CPU
        return packed_convolution(attributes, weights, shape)
    after = IN_PLACE[activation]
    if activation in _FUSED or after is None:
        return convolve
    return lambda x: after(convolve(x))


def _primitive(
    library: OneDnn, attributes: Attributes, weight: Tensor, bias: Tensor | None, shape: Shape
) -> Callable[[Tensor], Tensor]:
    made = _description(library, attributes, weight, bias, shape)
    result_shape, dtype = _result_shape(attributes, weight, shape), weight.dtype
    source = library.described(shape, _channels_last(shape), dtype)
    result = library.described(result_shape, _channels_last(result_shape), dtype)
    x_memory = library.make("memory_create", source, library.engine, None)
    y_memory = library.make("memory_create", result, library.engine, None)
    arguments = {dnnl.SRC: x_memory, dnnl.DST: y_memory, dnnl.WEIGHTS: _packed(library, made, attributes, weight)}
    if bias is not None:
        bias = bias.clone()
        one = library.described(bias.shape, (1,), dtype)
        arguments[dnnl.BIAS] = library.make("memory_create", one, library.engine, bias.data_ptr(), kept=bias)
    wanted = library.call("primitive_desc_query_md", made, dnnl.SCRATCH_OF, 0)
    scratch_bytes = library.call("memory_desc_get_size", wanted)
    if scratch_bytes:
        arguments[dnnl.SCRATCHPAD] = library.make("memory_create", wanted, library.engine, None)
    table = (Argument * len(arguments))(*[Argument(place, memory.address) for place, memory in arguments.items()])
    primitive = library.make("primitive_create", made)
    stream = library.make("stream_create", library.engine, dnnl.IN_ORDER)
    kept = (table, arguments, primitive, stream)
    # In the call itself, addresses only: it is made a thousand times in a network.
    run, place, call = library.execute, library.place, (primitive.address, stream.address, len(table))
    x_at, y_at, table_at = x_memory.address, y_memory.address, ctypes.addressof(table)
    scratch_at = arguments[dnnl.SCRATCHPAD].address if scratch_bytes else 0
    count, last = math.prod(shape), torch.channels_last

    def convolve(x: Tensor, kept: object = kept) -> Tensor:
        if x.numel() != count or x.dtype != dtype:
            raise ValueError(f"an input of {tuple(x.shape)} in {x.dtype}, not {shape} in {dtype}")
        x = x.contiguous(memory_format=last)
        y = torch.empty(result_shape, dtype=dtype, memory_format=last)
        place(x_at, x.data_ptr())
        place(y_at, y.data_ptr())
        if scratch_bytes:
            # Taken and given back in each call: a network's convolutions use the same memory, warm, in turn.
            scratch = torch.empty(scratch_bytes, dtype=torch.uint8)
            place(scratch_at, scratch.data_ptr())
        if run(*call, table_at):
            raise RuntimeError("oneDNN failed to execute a convolution")
        return y

    return convolve


def _description(
    library: OneDnn, attributes: Attributes, weight: Tensor, bias: Tensor | None, shape: Shape
) -> Handle:
    """What oneDNN will do (`dnnl_primitive_desc_t`); weights in the format that it likes best."""
    result_shape = _result_shape(attributes, weight, shape)
    setting = library.make("primitive_attr_create")
    library.check("scratchpad", library.call("primitive_attr_set_scratchpad_mode", setting, dnnl.SCRATCH_IS_GIVEN))
    if activation := _FUSED[str(attributes["activation"])]:
        after = library.make("post_ops_create")
        library.check("eltwise", library.call("post_ops_append_eltwise", after, *activation))
        library.check("post_ops", library.call("primitive_attr_set_post_ops", setting, after))
    padding = Dims(*_pair(attributes, "padding"))
    return library.make(
        "convolution_forward_primitive_desc_create",
        library.engine,
        dnnl.INFERENCE,
        dnnl.DIRECT,
        library.described(shape, _channels_last(shape), weight.dtype),
        library.described(_grouped(attributes, weight).shape, None, weight.dtype),
        None if bias is None else library.described(bias.shape, (1,), weight.dtype),
        library.described(result_shape, _channels_last(result_shape), weight.dtype),
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
    return weight if groups == 1 else weight.contiguous().unflatten(0, (groups, -1))


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


def _channels_last(shape: Shape) -> tuple[int, int, int, int]:
    """Strides."""
    _, channels, height, width = shape
    return (channels * height * width, 1, width * channels, channels)


def _pair(attributes: Attributes, name: str) -> tuple[int, int]:
    return cast("tuple[int, int]", attributes[name])
