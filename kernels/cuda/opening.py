"""From what a user wrote to the parts of a runtime: device, lanes, provider."""

from __future__ import annotations

from iosfarm.ir.device import Fact
from iosfarm.ir.errors import UsageError
from iosfarm.ir.plan import PlanScope
from iosfarm.kernels.cuda.device.gpu import Gpu
from iosfarm.kernels.cuda.device.probe import check, look
from iosfarm.kernels.cuda.execution.lane import Lanes
from iosfarm.kernels.cuda.options import CudaSpec, parse_spec
from iosfarm.kernels.cuda.providers.convolution import Provider
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache, cache_folder
from iosfarm.kernels.cuda.providers.trials import Trials

CANDIDATES = 4
"""Ways to compute a convolution that are timed: heuristics seldom have the best one further down."""

TF32_CAPABILITY = (8, 0)


def open_parts(text: str) -> tuple[Gpu, Lanes, Provider | None, Trials, CudaSpec]:
    """What `CudaRuntime` is made of.

    Raises:
        UsageError: not a CUDA device, none that is here, or something that it needs is missing.
    """
    spec = parse_spec(text)
    check(look(), index=spec.index, cudnn=spec.provider == "cudnn", where=text)
    try:
        from iosfarm.kernels.cuda.device.cupy_gpu import CupyGpu
    except ImportError as error:
        raise UsageError(f"CuPy does not load: {error}", where=text, hint="reinstall it") from error
    gpu = CupyGpu(spec.index)
    try:
        if spec.precision == "tf32" and gpu.facts.capability < TF32_CAPABILITY:
            raise UsageError(f"{gpu.facts.name} has no TF32", where=text, hint="use precision=ieee")
        lanes = Lanes(gpu)
        facts = gpu.facts
        scope: dict[str, Fact] = {
            "architecture": facts.architecture,
            "sms": facts.sms,
            "provider": spec.provider,
            "cuda": f"{facts.cuda[0]}.{facts.cuda[1]}",
            "tried": CANDIDATES,
        }
        if spec.provider == "iosfarm":
            plans = PlanCache(cache_folder(), PlanScope(facts.name, scope))
            return gpu, lanes, None, Trials(gpu, lanes.home, plans, CANDIDATES), spec
        return gpu, lanes, *_with_cudnn(gpu, lanes, spec, scope, text), spec
    except BaseException:
        gpu.close()
        raise


def _with_cudnn(gpu: Gpu, lanes: Lanes, spec: CudaSpec, scope: dict[str, Fact], text: str) -> tuple[Provider, Trials]:
    try:
        from iosfarm.kernels.cuda.providers import cudnn_graph
        from iosfarm.kernels.cuda.providers.cudnn_provider import CudnnProvider

        version = ".".join(map(str, cudnn_graph.version()))
        if broken := cudnn_graph.why_broken(lanes.home.cudnn):
            raise RuntimeError(broken)
    except (ImportError, OSError, RuntimeError) as error:
        hint = "reinstall nvidia-cudnn-frontend and cuDNN, or use cuda?provider=iosfarm"
        raise UsageError(f"cuDNN does not work: {error}", where=text, hint=hint) from error
    scope |= {"cudnn": version, "cudnn_frontend": cudnn_graph.frontend_version()}
    trials = Trials(gpu, lanes.home, PlanCache(cache_folder(), PlanScope(gpu.facts.name, scope)), CANDIDATES)
    return CudnnProvider(gpu, trials, spec.precision), trials
