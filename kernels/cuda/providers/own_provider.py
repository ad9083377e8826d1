"""Who computes convolutions: our own implicit matrix product, for which this is the provider, or cuDNN."""

from __future__ import annotations

from iosfarm.ir.device import Fact
from iosfarm.kernels.cuda.device.gpu import Gpu, GpuFacts
from iosfarm.kernels.cuda.program.steps import Call
from iosfarm.kernels.cuda.providers.convolution import Convolution
from iosfarm.kernels.cuda.providers.own_kernels import own_convolutions
from iosfarm.kernels.cuda.providers.trials import Trials, tensor_bytes

TENSOR_CORES = {"float16": (7, 5), "bfloat16": (8, 0), "float32": (8, 0)}
"""Compute capability from which our kernels multiply a dtype by tensor cores; float32 as TF32."""


def tensor_cores(facts: GpuFacts, dtype: str, precision: str) -> bool:
    """Whether our kernels may multiply by them. precision: of float32; only `tf32` lets it be rounded."""
    return facts.capability >= TENSOR_CORES[dtype] and (dtype != "float32" or precision == "tf32")


class OwnProvider:
    """See `Provider`: our kernels, each convolution cut into tiles as is fastest. precision: see `tensor_cores`."""

    name = "iosfarm"

    def __init__(self, gpu: Gpu, trials: Trials, precision: str) -> None:
        self._gpu = gpu
        self._precision = precision
        self._trials = trials
        self._calls: dict[str, Call] = {}

    def facts(self) -> tuple[dict[str, Fact], dict[str, Fact]]:
        """See `Provider`."""
        return {"tilings": self._trials.most}, {}

    def convolution(self, wanted: Convolution, sms: int | None = None) -> Call:
        """See `Provider`; `sms` changes nothing, because blocks go wherever there is room.

        Raises:
            Infeasible: it is too large for 32-bit indices.
        """
        key = wanted.text
        if key not in self._calls:
            size = tensor_bytes(wanted.output, wanted.dtype)
            reads = [tensor_bytes(wanted.input, wanted.dtype), *([size] if wanted.residual else [])]
            writes = [tensor_bytes(wanted.written, wanted.dtype)]
            tensor = tensor_cores(self._gpu.facts, wanted.dtype, self._precision)
            candidates = own_convolutions(self._gpu, wanted, self._trials.most, tensor)
            name = "own tensor" if tensor else "own"
            self._calls[key] = self._trials.choose(f"{name} {key}", candidates, reads, writes)
        return self._calls[key]

    def close(self) -> None:
        """See `Provider`."""
        self._calls.clear()
