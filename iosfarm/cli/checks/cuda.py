"""What this machine has of CUDA, and whether `--device cuda` works with it."""

from __future__ import annotations

from functools import cache

from iosfarm.cli.checks import Check
from iosfarm.ir.errors import UsageError
from iosfarm.kernels.cuda.device import probe


@cache
def _found() -> probe.Findings:
    return probe.look()


def driver(found: probe.Findings | None = None) -> Check:
    """NVIDIA's driver and the GPUs that it shows."""
    found = found or _found()
    if found.driver is None:
        return Check("cuda driver", "unused", found.problem, required=False)
    version = f"CUDA {found.driver.cuda[0]}.{found.driver.cuda[1]}"
    gpus = ", ".join(found.driver.gpus) or "no GPU"
    return Check("cuda driver", "ok" if found.driver.gpus else "unused", f"{version}, {gpus}", required=False)


def packages(found: probe.Findings | None = None) -> Check:
    """CuPy and cuDNN, as far as they are installed."""
    found = found or _found()
    names = [f"{name} {number}" for name, number in found.packages.items()]
    if found.cudnn and not any(name in found.packages for name in probe.CUDNN.values()):
        names.append(found.cudnn)
    detail = ", ".join(names) or "none"
    return Check("cuda packages", "ok" if names else "unused", detail, required=False)


def usable(found: probe.Findings | None = None) -> Check:
    """Whether `--device cuda` would work; a machine without a GPU has nothing to mend."""
    found = found or _found()
    try:
        probe.check(found)
    except UsageError as error:
        if found.driver is None or not found.driver.gpus:
            return Check("cuda", "unused", "no GPU here", required=False)
        return Check("cuda", "problem", error.what, error.hint, required=False)
    return Check("cuda", "ok", "--device cuda works; iosfarm doctor --gpu tries it", required=False)
