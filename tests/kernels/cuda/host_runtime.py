"""The CUDA runtime on `HostGpu`: all of it but the driver and cuDNN; and a small stage for it."""

from __future__ import annotations

from host_gpu import HostGpu

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.plan import PlanScope
from iosfarm.ir.stage import Stage
from iosfarm.kernels.cuda.execution.lane import Lanes
from iosfarm.kernels.cuda.options import parse_spec
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.providers.trials import Trials
from iosfarm.kernels.cuda.runtime import CudaRuntime


def host_runtime(gpu: HostGpu, options: str = "", *, plans: PlanCache | None = None, most: int = 1) -> CudaRuntime:
    """most: ways to compute a convolution that are tried."""
    lanes = Lanes(gpu)
    trials = Trials(gpu, lanes.home, plans or PlanCache(None, PlanScope("")), most)
    return CudaRuntime(gpu, lanes, None, trials, parse_spec(f"cuda?provider=iosfarm{options}"))


def small(channels: int = 4) -> Graph:
    """Two convolutions beside each other, their sum."""
    b = GraphBuilder("small")
    x = b.input((channels, 5, 5))
    return b.build(b.add(b.conv2d(x, 4, 3, padding=1), b.conv2d(x, 4, 1), activation="relu"))


def pair_stage(dtype: str = "float32") -> Stage:
    return canonical_stage(small().bind(dtype=dtype), [[0], [1]], layout="nhwc").stage
