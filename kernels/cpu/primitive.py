"""What oneDNN has prepared, as a function: arguments in their places, and a new result in every call."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from iosfarm.ir.operators import Shape
from iosfarm.kernels.cpu import onednn as dnnl
from iosfarm.kernels.cpu.onednn import Argument, Handle, OneDnn


def function_of(
    library: OneDnn,
    made: Handle,
    shape: Shape,
    result_shape: Shape,
    dtype: torch.dtype,
    constants: Mapping[int, Handle],
) -> Callable[[Tensor], Tensor]:
    """The function of images of `shape`, channels last, that `made` (`dnnl_primitive_desc_t`) describes.

    constants: memory in other places than the input's and the result's. Not for two threads at a time. What is returned
    raises ValueError for an input of another size or dtype: the library would read beyond its end.
    """
    source = library.make("memory_create", library.image(shape, dtype), library.engine, None)
    result = library.make("memory_create", library.image(result_shape, dtype), library.engine, None)
    arguments = {dnnl.SRC: source, dnnl.DST: result, **constants}
    wanted = library.call("primitive_desc_query_md", made, dnnl.SCRATCH_OF, 0)
    scratch_bytes = library.call("memory_desc_get_size", wanted)
    if scratch_bytes:
        arguments[dnnl.SCRATCHPAD] = library.make("memory_create", wanted, library.engine, None)
    table = (Argument * len(arguments))(*[Argument(place, memory.address) for place, memory in arguments.items()])
    primitive = library.make("primitive_create", made)
    stream = library.make("stream_create", library.engine, dnnl.IN_ORDER)
    # In the call itself, addresses only: a network makes it hundreds of times.
    run, place, last = library.execute, library.place, torch.channels_last
    call = (primitive.address, stream.address, len(table), ctypes.addressof(table))
    source_at, result_at = source.address, result.address
    scratch_at = arguments[dnnl.SCRATCHPAD].address if scratch_bytes else 0
    count = math.prod(shape)

    def function(x: Tensor, kept: object = (table, arguments, primitive, stream)) -> Tensor:
        if x.numel() != count or x.dtype != dtype:
            raise ValueError(f"an input of {tuple(x.shape)} in {x.dtype}, not {shape} in {dtype}")
        x = x.contiguous(memory_format=last)
        y = torch.empty(result_shape, dtype=dtype, memory_format=last)
        place(source_at, x.data_ptr())
        place(result_at, y.data_ptr())
        if scratch_bytes:
            # Taken and given back in each call: those of a network use the same memory, warm, in turn.
            scratch = torch.empty(scratch_bytes, dtype=torch.uint8)
            place(scratch_at, scratch.data_ptr())
        if run(*call):
            raise RuntimeError("oneDNN failed to execute what it had prepared")
        return y

    return function
