"""Our own kernels as calls: launches of the catalogue, compiled for the device, with addresses filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iosfarm.kernels.cuda.catalogue.launch import Launch, Pointer, Scalar, scratch_bytes
from iosfarm.kernels.cuda.catalogue.sources import source_text
from iosfarm.kernels.cuda.device.gpu import Gpu, Kernel
from iosfarm.kernels.cuda.program.parameters import NONE, Block
from iosfarm.kernels.cuda.program.steps import Addresses, Lane


@dataclass(frozen=True)
class KernelCall:
    """See `Call`. residual: the last of what it reads is added to the result before the activation."""

    gpu: Gpu
    name: str
    launches: tuple[Launch, ...]
    kernels: tuple[Kernel, ...]
    parameters: Block
    residual: bool

    @property
    def workspace(self) -> int:
        """See `Call`."""
        return scratch_bytes(self.launches)

    def enqueue(self, lane: Lane, reads: Addresses, writes: Addresses, parameters: int, workspace: int) -> None:
        """See `Call`."""
        inputs = reads[:-1] if self.residual else reads
        places = {f"input{i}": address for i, address in enumerate(inputs)}
        places |= {"output": writes[0], "scratch": workspace, "null": 0}
        if self.residual:
            places["residual"] = reads[-1]
        places |= {p.name: parameters + p.offset for p in self.parameters.parameters}
        for launch, kernel in zip(self.launches, self.kernels, strict=True):
            arguments = [_argument(argument, places) for argument in launch.arguments]
            self.gpu.launch(kernel, launch.grid, launch.block, launch.shared_bytes, arguments, lane.stream)


def kernel_call(
    gpu: Gpu, name: str, launches: Sequence[Launch], parameters: Block = NONE, *, residual: bool = False
) -> KernelCall:
    """A call of these launches; their kernels are compiled now."""
    kernels = tuple(gpu.compile(source_text(one.source), one.options, one.kernel) for one in launches)
    return KernelCall(gpu, name, tuple(launches), kernels, parameters, residual)


def _argument(argument: Pointer | Scalar, places: dict[str, int]) -> np.generic:
    if isinstance(argument, Scalar):
        return np.int32(int(argument.value)) if argument.kind == "int32" else np.float32(argument.value)
    # A null pointer is null, whatever its offset.
    address = places[argument.name]
    return np.uint64(address + argument.offset if address else 0)
