"""What executes: the `Runtime` contract (`runtime.py`) and its implementations, one folder each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iosfarm.kernels.runtime import Runtime

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.kernels, not kernels: a second copy of every module would be loaded")


KNOWN = "use auto, cpu, cuda, replay:SOURCE, or a simulated device such as sim:v100"


def open_runtime(spec: str) -> Runtime:
    """The runtime of a device: `cpu`, `cuda` with options (`cuda:1?precision=tf32`), `sim:NAME` with options
    (`sim:v100?noise=0`), `replay:SOURCE`, or `auto`, the best of the first two.

    Raises:
        UsageError: no such device, or this machine does not have it.
    """
    from iosfarm.ir.errors import UsageError

    if spec == "auto":
        spec = best_device()
    if spec == "cpu":
        from iosfarm.kernels.cpu.runtime import CpuRuntime

        return CpuRuntime()
    if spec.startswith("sim:"):
        from iosfarm.kernels.sim import SimRuntime

        return SimRuntime.from_spec(spec)
    if spec.startswith("replay:"):
        from iosfarm.kernels.replay import ReplayRuntime

        return ReplayRuntime.from_spec(spec)
    if spec.startswith("cuda"):
        from iosfarm.kernels.cuda.runtime import CudaRuntime

        return CudaRuntime.from_spec(spec)
    raise UsageError(f"unknown device {spec!r}", hint=f"{KNOWN}; see iosfarm doctor")


def check_spec(spec: str) -> None:
    """Whether a text names a device, be it here or not.

    Raises:
        UsageError: it does not.
    """
    from iosfarm.ir.errors import UsageError

    kind = spec.partition(":")[0].partition("?")[0]
    if kind == "cuda":
        from iosfarm.kernels.cuda.options import parse_spec as parse_cuda

        parse_cuda(spec)
    elif kind == "sim" and spec != "sim:":
        from iosfarm.kernels.sim import parse_spec as parse_sim

        parse_sim(spec)
    elif kind == "replay" and spec != "replay:":
        return
    elif spec not in ("auto", "cpu"):
        raise UsageError(f"unknown device {spec!r}", hint=KNOWN)


def best_device() -> str:
    """`cuda` where all that it needs is there, else `cpu`; loads neither."""
    from iosfarm.kernels.cuda.device.probe import usable

    return "cuda" if usable() else "cpu"
