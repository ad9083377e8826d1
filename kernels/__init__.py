"""What executes: the `Runtime` contract (`runtime.py`) and its implementations, one folder each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iosfarm.kernels.runtime import Runtime

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.kernels, not kernels: a second copy of every module would be loaded")


def open_runtime(spec: str) -> Runtime:
    """The runtime of a device: `auto`, `cpu`, or `sim:NAME` with options (`sim:v100?noise=0`).

    Raises:
        UsageError: no such device, or this machine does not have it.
    """
    from iosfarm.ir.errors import UsageError

    if spec in ("auto", "cpu"):
        from iosfarm.kernels.cpu.runtime import CpuRuntime

        return CpuRuntime()
    if spec.startswith("sim:"):
        from iosfarm.kernels.sim import SimRuntime

        return SimRuntime.from_spec(spec)
    if spec == "cuda" or spec.startswith("cuda:"):
        raise UsageError(
            "this version has no CUDA runtime", where=f"device {spec}", hint="use cpu, or a model such as sim:v100"
        )
    raise UsageError(f"unknown device {spec!r}", hint="use auto, cpu or sim:v100; see iosfarm doctor")
