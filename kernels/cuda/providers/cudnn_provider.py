"""Convolutions by cuDNN: plans are timed for each convolution, and the fastest is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from iosfarm.ir.device import Fact
from iosfarm.ir.graph import DTYPES
from iosfarm.ir.plan import Plan, plan_key
from iosfarm.kernels.cuda.device.gpu import Gpu, rounded
from iosfarm.kernels.cuda.program.parameters import Block
from iosfarm.kernels.cuda.program.steps import Addresses, Call, Lane
from iosfarm.kernels.cuda.providers import cudnn_graph
from iosfarm.kernels.cuda.providers.convolution import Convolution
from iosfarm.kernels.cuda.providers.cudnn_graph import (
    BIAS,
    RESIDUAL,
    WEIGHT,
    ConvolutionGraph,
    NotSupported,
    X,
    Y,
    fusions,
)
from iosfarm.kernels.cuda.providers.kernel_call import KernelCall
from iosfarm.kernels.cuda.providers.own_kernels import convolution_block, epilogue_call
from iosfarm.kernels.cuda.providers.trials import Trials, tensor_bytes

BUILDING = 0.5
"""Seconds after which no further plan of a convolution is built: some engines are compiled when they are."""

GIVING_UP = 3.0
"""Seconds after which no further one is built where none could be: that can take a second each."""

WORKSPACE = 256 * 2**20
"""Bytes of scratch memory that a plan may want."""

ALIGNED = 16
"""Bytes: every tensor of a graph begins at a multiple of it, as the frontend says of tensors by default."""


@dataclass(frozen=True)
class CudnnCall:
    """A built plan, and what is left to do after it. `scratch`: bytes of the plan's own workspace, at its beginning;
    where there is an epilogue, the convolution's bare result follows.
    """

    graph: ConvolutionGraph
    index: int
    name: str
    wanted: Convolution
    fused: str
    parameters: Block
    scratch: int
    epilogue: KernelCall | None

    @property
    def _first(self) -> int:
        """Bytes from the beginning of what is written to its first element."""
        part = self.wanted.part
        return 0 if part is None else part.first * DTYPES[self.wanted.dtype]

    @property
    def workspace(self) -> int:
        """See `Call`."""
        bare = 0 if self.epilogue is None else rounded(tensor_bytes(self.wanted.output, self.wanted.dtype))
        return self.scratch + bare

    def enqueue(self, lane: Lane, reads: Addresses, writes: Addresses, parameters: int, workspace: int) -> None:
        """See `Call`."""
        bare = workspace + self.scratch
        bias = parameters + self.parameters.offset("bias") if self.wanted.bias else 0
        weight = parameters + self.parameters.offset("weight")
        tensors = {X: reads[0], WEIGHT: weight, Y: writes[0] + self._first if self.epilogue is None else bare}
        if bias and self.fused != "none":
            tensors[BIAS] = bias
        if self.wanted.residual and self.fused == "all":
            tensors[RESIDUAL] = reads[1]
        self.graph.execute(self.index, tensors, workspace, lane.cudnn)
        if self.epilogue is not None:
            added = [bias] if bias and self.fused == "none" else []
            added += [reads[1]] if self.wanted.residual else []
            self.epilogue.enqueue(lane, [bare, *added], writes, 0, 0)


class CudnnProvider:
    """See `Provider`. precision: of float32, `ieee` or `tf32`. `trials.most`: plans of each fusion that are timed."""

    name = "cudnn"

    def __init__(self, gpu: Gpu, trials: Trials, precision: str) -> None:
        self._gpu = gpu
        self._trials = trials
        self._precision = precision
        self._calls: dict[str, Call | None] = {}

    def facts(self) -> tuple[dict[str, Fact], dict[str, Fact]]:
        """See `Provider`."""
        major, minor, patch = cudnn_graph.version()
        hard: dict[str, Fact] = {"cudnn": f"{major}.{minor}", "plans": self._trials.most}
        return hard, {"cudnn_patch": patch, "cudnn_frontend": cudnn_graph.frontend_version()}

    def convolution(self, wanted: Convolution, sms: int | None = None) -> Call | None:
        """See `Provider`."""
        key = plan_key(["cudnn", wanted.text, self._precision, sms or 0])
        part = wanted.part
        if part is not None and part.first * DTYPES[wanted.dtype] % ALIGNED:
            return None
        if key not in self._calls:
            call = self._remembered(wanted, sms, key) or self._fastest(wanted, sms, key)
            # It plans for few numbers of processors (9.28 on an H200: 18 and less, and only half precision).
            self._calls[key] = self.convolution(wanted) if call is None and sms is not None else call
        return self._calls[key]

    def close(self) -> None:
        """See `Provider`."""
        self._calls.clear()

    def _remembered(self, wanted: Convolution, sms: int | None, key: str) -> Call | None:
        """The plan that was the fastest before, if cuDNN still offers it."""
        plan = self._trials.plans.get(key)
        fused = plan.name.split()[0] if plan is not None else ""
        if plan is None or fused not in fusions(wanted):
            return None
        with suppress(*NotSupported):
            graph = self._graph(wanted, fused, sms)
            for index, name in graph.plans():
                if _name(fused, name) == plan.name:
                    return self._call(wanted, graph, fused, index, name)
        return None

    def _fastest(self, wanted: Convolution, sms: int | None, key: str) -> Call | None:
        size = tensor_bytes(wanted.output, wanted.dtype)
        reads = [tensor_bytes(wanted.input, wanted.dtype), *([size] if wanted.residual else [])]
        candidates = self._candidates(wanted, sms)
        if self._trials.most == 1:
            return next(candidates, None)
        best = self._trials.fastest(candidates, reads, [tensor_bytes(wanted.written, wanted.dtype)])
        if best is None:
            return None
        self._trials.plans.put(Plan(key, best[0].name, best[1]))
        return best[0]

    def _candidates(self, wanted: Convolution, sms: int | None) -> Iterator[CudnnCall]:
        begin = time.monotonic()
        for fused in fusions(wanted):
            found = 0
            try:
                graph = self._graph(wanted, fused, sms)
            except NotSupported:
                continue
            for index, name in graph.plans():
                if found == self._trials.most or time.monotonic() > begin + (BUILDING if found else GIVING_UP):
                    break
                call = self._call(wanted, graph, fused, index, name)
                if call is not None:
                    found += 1
                    yield call

    def _graph(self, wanted: Convolution, fused: str, sms: int | None) -> ConvolutionGraph:
        handle = self._trials.lane.cudnn
        return ConvolutionGraph(handle, wanted, fused, self._precision, sms=sms, workspace=WORKSPACE)

    def _call(
        self, wanted: Convolution, graph: ConvolutionGraph, fused: str, index: int, name: str
    ) -> CudnnCall | None:
        scratch = graph.build(index)
        if scratch is None:
            return None
        left = None
        if fused != "all":
            left = epilogue_call(self._gpu, wanted, bias=fused == "none")
        own = rounded(scratch) if scratch else 0
        return CudnnCall(graph, index, _name(fused, name), wanted, fused, convolution_block(wanted), own, left)


def _name(fused: str, name: str) -> str:
    return f"{fused} {name}"
