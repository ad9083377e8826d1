"""What searching on the CPU needs: Python and its packages, cores, memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from iosfarm.cli.checks import Check

GIB = 2**30
MIN_MEMORY = 2 * GIB  # Ray's object store, torch and the weights of one large network
WANTED = {"torch": "torch>=2.5", "numba": "numba>=0.61", "ray": "ray>=2.40"}
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def python() -> Check:
    """The interpreter."""
    return Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def iosfarm() -> Check:
    """iosfarm and whether its three linked rooms are there: a clone without symbolic links lacks them."""
    from importlib.metadata import version
    from importlib.util import find_spec

    absent = [name for name in ("db", "kernels", "workers") if find_spec(f"iosfarm.{name}") is None]
    if absent:
        todo = "clone again with git -c core.symlinks=true"
        return Check("iosfarm", "problem", f"{version('iosfarm')} without {', '.join(absent)}", todo)
    return Check("iosfarm", "ok", version("iosfarm"))


def affinity() -> int:
    """Cores that this process may run on."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def cgroup_folders(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> Iterator[Path]:
    """The control groups that limit this process, innermost first; as versions 1 and 2 lay them out."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root / controllers if controllers else root
        # In a container the path can be the host's and not exist here; the limits then stand at the base.
        folder = base / path.lstrip("/")
        while folder.is_relative_to(base):
            yield folder
            if folder == base:
                break
            folder = folder.parent


def cgroup_cores(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> float | None:
    """The tightest CPU quota in cores, None where there is none."""
    quotas = []
    for folder in cgroup_folders(root, own):
        words = _read(folder / "cpu.max").split()  # version 2: "200000 100000", or "max 100000"
        if not words:
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if all(word.isdigit() for word in words):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def cgroup_memory(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """The tightest memory limit in bytes, None where there is none."""
    limits = []
    for folder in cgroup_folders(root, own):
        text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        if text.isdigit():
            limits.append(int(text))
    return min(limits, default=None)


def cores() -> Check:
    """Cores by affinity, and the control group's quota, which torch's number of threads does not heed."""
    allowed, quota = affinity(), cgroup_cores()
    if quota is not None and quota < allowed:
        detail = f"{allowed} cores, of which the control group grants {quota:.3g}"
        usable = max(1, int(quota))
        todo = f"measurements are throttled: run with taskset --cpu-list 0-{usable - 1}, or raise the quota"
        return Check("cores", "problem", detail, todo, required=False)
    return Check("cores", "ok", f"{allowed} of {os.cpu_count()} cores")


def memory() -> Check:
    """Memory that this process can have."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = min(total, cgroup_memory() or total)
    detail = f"{limit / GIB:.1f} GiB"
    if limit < MIN_MEMORY:
        return Check("memory", "problem", detail, f"have at least {MIN_MEMORY / GIB:.0f} GiB")
    return Check("memory", "ok", detail)


def torch() -> Check:
    """torch, by really running a convolution."""
    try:
        import torch
    except ImportError as error:
        return Check("torch", "missing", str(error), f"pip install '{WANTED['torch']}'")
    with torch.inference_mode():
        out = torch.nn.functional.conv2d(torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3), padding=1)
    if out[0, 0, 2, 2].item() != 18.0:
        todo = "reinstall it: pip install --force-reinstall torch"
        return Check("torch", "problem", f"{torch.__version__} computes a convolution wrongly", todo)
    capability = torch.backends.cpu.get_cpu_capability()
    return Check("torch", "ok", f"{torch.__version__}, {capability}, {torch.get_num_threads()} threads")


def convolutions() -> Check:
    """What computes the CPU's convolutions."""
    from iosfarm.kernels.cpu.operators.onednn import PACKAGE, onednn

    library = onednn()
    if library is None:
        todo = f"pip install {PACKAGE} (Linux on x86-64); measurements with it are others than those without"
        return Check("convolutions", "missing", "torch's, which are slower than oneDNN's own", todo, required=False)
    return Check("convolutions", "ok", f"oneDNN {library.version}", required=False)


def numba() -> Check:
    """numba, by really compiling a function."""
    try:
        import numba
    except ImportError as error:
        return Check("numba", "missing", str(error), f"pip install '{WANTED['numba']}'")

    if numba.njit(_successor)(1) != 2:
        todo = "reinstall it: pip install --force-reinstall numba llvmlite"
        return Check("numba", "problem", f"{numba.__version__} compiles wrong code", todo)
    return Check("numba", "ok", str(numba.__version__))


def _successor(number: int) -> int:
    return number + 1


def ray() -> Check:
    """ray; no cluster is started."""
    try:
        import ray
    except ImportError as error:
        todo = f"pip install '{WANTED['ray']}'; without it: --executor process"
        return Check("ray", "missing", str(error), todo)
    return Check("ray", "ok", str(ray.__version__))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
