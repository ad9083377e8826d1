"""The CUDA runtime on `HostGpu`: all of it but the driver and cuDNN."""

from __future__ import annotations

from host_gpu import HostGpu

from iosfarm.ir.plan import PlanScope
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
