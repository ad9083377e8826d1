"""What this machine has of CUDA. This version measures on the CPU and on models of GPUs, and uses none of it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from iosfarm.cli.checks import Check

PACKAGES = (
    *("cupy-cuda12x", "cupy-cuda13x"),
    *("nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-cudnn-frontend"),
)
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE: the driver works and shows no GPU
NOT_USED = "this version has no CUDA runtime and does not use it"


class NoDeviceError(RuntimeError):
    """libcuda says that there is no GPU."""


@dataclass(frozen=True)
class Driver:
    """What libcuda says. cuda: the newest CUDA that the driver runs. gpus: name and compute capability."""

    cuda: tuple[int, int]
    gpus: tuple[str, ...]


def probe_driver(library: str = "libcuda.so.1") -> Driver:
    """Ask the driver itself, which is there before any CUDA package is; makes no context on a GPU.

    Raises OSError where there is no driver library, RuntimeError with libcuda's error code where it fails.
    """
    cuda = ctypes.CDLL(library)

    def call(name: str, *args: object) -> None:
        function = getattr(cuda, name, None)
        if function is None:
            raise RuntimeError(f"{library} has no {name}: it is not NVIDIA's")
        code = function(*args)
        if code == NO_DEVICE:
            raise NoDeviceError
        if code != 0:
            raise RuntimeError(f"{name} returned error {code}")

    number, count = ctypes.c_int(), ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(number))
    try:
        call("cuInit", 0)
        call("cuDeviceGetCount", ctypes.byref(count))
    except NoDeviceError:
        count.value = 0
    gpus = []
    for index in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        call("cuDeviceGet", ctypes.byref(device), index)
        call("cuDeviceGetName", name, len(name), device)
        capability = []
        for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
            value = ctypes.c_int()
            call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            capability.append(str(value.value))
        gpus.append(f"{name.value.decode()} (sm_{''.join(capability)})")
    return Driver((number.value // 1000, number.value % 1000 // 10), tuple(gpus))


def driver(library: str = "libcuda.so.1") -> Check:
    """NVIDIA's driver and the GPUs that it shows."""
    try:
        found = probe_driver(library)
    except OSError:
        return _unused("cuda driver", "none")
    except RuntimeError as error:
        return _unused("cuda driver", str(error))
    return _unused("cuda driver", f"CUDA {found.cuda[0]}.{found.cuda[1]}, {', '.join(found.gpus) or 'no GPU'}")


def packages() -> Check:
    """CuPy and cuDNN, as far as they are installed."""
    found = [f"{name} {number}" for name in PACKAGES if (number := _installed(name))]
    return _unused("cuda packages", ", ".join(found) or "none")


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _unused(name: str, found: str) -> Check:
    return Check(name, "unused", f"{found}; {NOT_USED}", required=False)
