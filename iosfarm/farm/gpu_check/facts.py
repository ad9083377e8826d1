"""What is checked: the GPU, the versions, the date."""

from __future__ import annotations

import json
import os
import platform
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from iosfarm.farm.gpu_check.context import Context
from iosfarm.farm.gpu_check.process import run_for
from iosfarm.kernels import open_runtime
from iosfarm.kernels.cuda.device.probe import look

PACKAGES = (
    *("iosfarm", "torch", "numpy", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    *("nvidia-cudnn-frontend", "nvidia-ml-py", "triton"),
)
TESTS = Path("tests/kernels/cuda/test_gpu.py")


def run(context: Context) -> None:
    """The device's fingerprint and state; everything that a figure depends on."""
    versions: dict[str, str | int | float | bool | None] = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    found = look()
    context.rows.add(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        python=sys.version.split()[0],
        machine=platform.machine(),
        cores=os.cpu_count(),
        packages=dict(versions),
        driver=None if found.driver is None else ".".join(map(str, found.driver.cuda)),
        cudnn=found.cudnn,
    )
    with closing(open_runtime(context.device)) as runtime:
        device, environment = runtime.fingerprint()
        read = getattr(runtime, "conditions", dict)
        context.rows.add(
            model=device.model, properties=dict(device.properties), hard=dict(environment.hard),
            soft=dict(environment.soft), conditions=dict(read()),
        )  # fmt: skip


def conformance(context: Context) -> None:
    """The contract's own tests, on the GPU: they come with a checkout, not with an install."""
    if not TESTS.is_file():
        context.rows.add(skipped="the tests are in a checkout: run it there with make gpu-check")
        return
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider", str(TESTS)]
    code, out, _ = run_for(command, max(5.0, context.left - 1))
    lines = out.strip().splitlines()
    # A line for each test as it ends, so that what had passed in time is known.
    ended = {
        word: sum(f" {word} " in f"{line} " for line in lines) for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")
    }
    failed = [line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))]
    failed = failed or [line[:200] for line in lines if " FAILED " in line or " ERROR " in line]
    context.rows.add(
        passed=code == 0, in_time=code is not None, tests=ended, summary=lines[-1][:200] if lines else "",
        failed=failed[:20],
    )  # fmt: skip


def benchmark(context: Context) -> None:
    """Our kernels against the device's copy bandwidth and against cuDNN, by the script in a checkout."""
    script = Path("benchmarks/cuda_kernels.py")
    if not script.is_file():
        context.rows.add(skipped="the benchmark is in a checkout: run it there with make gpu-check")
        return
    seconds = f"{0.7 * context.left:.0f}"
    command = [sys.executable, str(script), "--device", context.device, "--json", "--seconds", seconds]
    code, out, errors = run_for(command, max(5.0, context.left - 1), errors_apart=True)
    try:
        found = json.loads(out)
    except ValueError:
        found = None
    context.rows.add(code=code, found=found, end=errors.strip()[-500:])
