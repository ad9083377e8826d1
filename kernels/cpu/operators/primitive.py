"""What oneDNN has prepared, bound to the memory that it reads and writes."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from iosfarm.ir.operators import Shape
from iosfarm.kernels.cpu.operators import onednn as dnnl
from iosfarm.kernels.cpu.operators.onednn import Argument, Handle, OneDnn
from iosfarm.kernels.cpu.operators.prepared import Prepared, Source, Step, Values


class Primitive:
    """See `Prepared`, for images, channels last. made: what to do (`dnnl_primitive_desc_t`). reads: the places of the
    inputs among its arguments, with their descriptions and the shapes that they have for us. result: the same without a
    place. constants: memory in other places. part: see `Prepared.into_part`.

    A step is not for two threads at a time. It raises ValueError for an input of another size or dtype: the library
    would read beyond its end.
    """

    def __init__(
        self,
        library: OneDnn,
        made: Handle,
        reads: Sequence[tuple[int, Handle, Shape]],
        result: tuple[Handle, Shape],
        dtype: torch.dtype,
        constants: Mapping[int, Handle],
        part: Callable[[int], Prepared | None] = lambda _: None,
    ) -> None:
        self._library, self._reads, self._constants = library, reads, constants
        self._described, self._shape = result
        self._dtype = dtype
        self._primitive = library.make("primitive_create", made)
        self._stream = library.make("stream_create", library.engine, dnnl.IN_ORDER)
        # The description of the scratch memory is a part of `made`.
        self._made = made
        self._wanted = library.call("primitive_desc_query_md", made, dnnl.SCRATCH_OF, 0)
        self.scratch = library.call("memory_desc_get_size", self._wanted)
        self.into_part = part

    def __call__(self, *inputs: Tensor) -> Tensor:
        """See `Prepared.__call__`."""
        result = torch.empty(self._shape, dtype=self._dtype, memory_format=torch.channels_last)
        scratch = torch.empty(self.scratch, dtype=torch.uint8) if self.scratch else None
        self.step([Source(number) for number in range(len(inputs))], result, scratch)(list(inputs))
        return result

    def step(self, sources: Sequence[Source], result: Tensor, scratch: Tensor | None) -> Step:
        """See `Prepared.step`. What always lies in one place costs nothing in the call itself: a network makes hundreds
        of calls.
        """
        if self.scratch > (0 if scratch is None else scratch.numel()):
            raise ValueError(f"{self.scratch} bytes of scratch memory are needed")
        library = self._library
        arguments = {**self._constants, dnnl.DST: self._memory(self._described, result)}
        if scratch is not None:
            arguments[dnnl.SCRATCHPAD] = self._memory(self._wanted, scratch)
        moving: list[tuple[int, int, Shape]] = []
        for source, (place, described, shape) in zip(sources, self._reads, strict=True):
            memory = arguments[place] = self._memory(described, source.tensor)
            if source.tensor is None:
                moving.append((source.slot, memory.address, shape))
        table = (Argument * len(arguments))(*[Argument(place, memory.address) for place, memory in arguments.items()])
        run, call = (
            library.execute,
            (self._primitive.address, self._stream.address, len(table), ctypes.addressof(table)),
        )

        def fixed(_: Values, kept: object = (table, arguments, self)) -> None:
            if run(*call):
                raise RuntimeError("oneDNN failed to execute what it had prepared")

        if not moving:
            return fixed

        def placed(values: Values) -> None:
            tensors = [self._placed(values[slot], address, shape) for slot, address, shape in moving]
            fixed(values)
            tensors.clear()  # not before: they may be copies that nothing else holds

        return placed

    def _memory(self, described: Handle | int, tensor: Tensor | None) -> Handle:
        engine, address = self._library.engine, None if tensor is None else tensor.data_ptr()
        return self._library.make("memory_create", described, engine, address, kept=tensor)

    def _placed(self, x: Tensor | None, address: int, shape: Shape) -> Tensor:
        if x is None or x.numel() != math.prod(shape) or x.dtype != self._dtype:
            found = "nothing" if x is None else f"an input of {tuple(x.shape)} in {x.dtype}"
            raise ValueError(f"{found}, not {shape} in {self._dtype}")
        x = x.contiguous(memory_format=torch.channels_last)
        self._library.place(address, x.data_ptr())
        return x


def packed(library: OneDnn, made: Handle, plain: Tensor) -> Handle:
    """A copy of weights as `made` (`dnnl_primitive_desc_t`) wants them."""
    wanted = library.call("primitive_desc_query_md", made, dnnl.WEIGHTS_OF, 0)
    copy = torch.empty(library.call("memory_desc_get_size", wanted), dtype=torch.uint8)
    memory = library.make("memory_create", wanted, library.engine, copy.data_ptr(), kept=copy)
    given = library.described(plain.shape, plain.stride(), plain.dtype)
    source = library.make("memory_create", given, library.engine, plain.data_ptr())
    reorder = library.make(
        "primitive_create",
        library.make("reorder_primitive_desc_create", given, library.engine, wanted, library.engine, None),
    )
    stream = library.make("stream_create", library.engine, dnnl.IN_ORDER)
    table = (Argument * 2)(Argument(dnnl.SRC, source.address), Argument(dnnl.DST, memory.address))
    library.check("primitive_execute", library.execute(reorder, stream, len(table), ctypes.addressof(table)))
    return memory


def constant(library: OneDnn, tensor: Tensor) -> Handle:
    """A copy of a tensor."""
    copy = tensor.clone(memory_format=torch.contiguous_format)
    described = library.described(copy.shape, copy.stride(), copy.dtype)
    return library.make("memory_create", described, library.engine, copy.data_ptr(), kept=copy)
