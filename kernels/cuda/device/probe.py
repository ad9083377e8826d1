"""What this machine has of CUDA, and why it may not be enough.

Loads neither CuPy nor cuDNN, and makes no context on a GPU.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from iosfarm.ir.errors import UsageError

CUPY = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}
"""The distribution of CuPy for each major version of CUDA."""
CUDNN = {12: "nvidia-cudnn-cu12", 13: "nvidia-cudnn-cu13"}
FRONTEND = "nvidia-cudnn-frontend"
PACKAGES = (*CUPY.values(), *CUDNN.values(), FRONTEND)
CUDART = {12: "nvidia-cuda-runtime-cu12", 13: "nvidia-cuda-runtime"}
"""The distribution of CUDA's runtime library, which the frontend loads by name; CuPy's wheels have it built in."""
CUDART_WHEELS = ("cu13", "cuda_runtime")
"""Folders of the package `nvidia` that have it: since CUDA 13 one for all libraries, before one for each."""

NVRTC_WHEELS = ("cu13", "cuda_nvrtc")
"""The same of its compiler."""

OLDEST_DRIVER = {12: 525, 13: 580}
"""The first driver for each major version of CUDA (CUDA toolkit release notes, minor version compatibility)."""

NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE: the driver works and shows no GPU

USE_CPU = "or use --device cpu"


class NoDeviceError(RuntimeError):
    """libcuda says that there is no GPU."""


@dataclass(frozen=True)
class Driver:
    """What libcuda says. cuda: the newest CUDA that the driver runs. gpus: name and compute capability."""

    cuda: tuple[int, int]
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """driver: None where `problem` says why there is none. packages: installed distributions with their versions.

    cudnn: the library's file, or its name where the system finds it; empty where there is none. cudart: for each major
    version of CUDA its runtime library, likewise.
    """

    driver: Driver | None
    problem: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    cudnn: str = ""
    cudart: Mapping[int, str] = field(default_factory=dict)


def probe_driver(library: str = "libcuda.so.1") -> Driver:
    """Ask the driver itself, which is there before any CUDA package is.

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


def installed(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def find_cudnn() -> str:
    """libcudnn in LD_LIBRARY_PATH, of a wheel, or else the system's; empty where there is none. It is where cuDNN's
    frontend looks, in the same order: of two copies in one process each would load parts of the other.
    """
    for folder in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        for name in ("libcudnn.so.9", "libcudnn.so"):
            if Path(folder, name).exists():
                return str(Path(folder, name))
    return _of_a_wheel(("cudnn",), "libcudnn.so.9*") or ctypes.util.find_library("cudnn") or ""


def find_cudart(major: int) -> str:
    """CUDA's runtime library of a wheel, or else its name where the loader finds it; empty where there is none."""
    name = f"libcudart.so.{major}"
    if found := _of_a_wheel(CUDART_WHEELS, f"{name}*"):
        return found
    try:
        ctypes.CDLL(name)
    except OSError:
        return ""
    return name


def find_nvrtc(major: int) -> list[str]:
    """CUDA's compiler of a wheel, and what it loads by itself; none where there is no wheel of it."""
    patterns = (f"libnvrtc-builtins.so.{major}*", f"libnvrtc.so.{major}")
    return [file for pattern in patterns if (file := _of_a_wheel(NVRTC_WHEELS, pattern))]


def cupy_major() -> int | None:
    """CUDA's major version of the CuPy that is installed; None without one."""
    return next((major for major, name in CUPY.items() if name in installed((name,))), None)


def _of_a_wheel(folders: tuple[str, ...], pattern: str) -> str:
    spec = find_spec("nvidia") if "nvidia" not in sys.modules else sys.modules["nvidia"].__spec__
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    for place in places:
        for folder in folders:
            for file in sorted(Path(place, folder, "lib").glob(pattern)):
                return str(file)
    return ""


def look() -> Findings:
    """What there is, here and now."""
    driver, problem = None, ""
    try:
        driver = probe_driver()
    except OSError:
        problem = "CUDA needs NVIDIA's driver, and libcuda.so.1 was not found"
    except RuntimeError as error:
        problem = f"NVIDIA's driver does not start: {error}"
    return Findings(driver, problem, installed(), find_cudnn(), {major: find_cudart(major) for major in CUDART})


def check(found: Findings, *, index: int = 0, cudnn: bool = True, where: str = "cuda") -> None:
    """Whether the device `index` can be used, with cuDNN or without.

    Raises:
        UsageError: it cannot; the line says what is missing and what to do.
    """
    driver = found.driver
    if driver is None:
        raise UsageError(found.problem, where=where, hint=f"install a driver, {USE_CPU}")
    if not driver.gpus:
        raise UsageError(
            "the driver shows no GPU", where=where, hint=f"is it hidden by CUDA_VISIBLE_DEVICES? {USE_CPU}"
        )
    wanted = max((major for major in CUPY if major <= driver.cuda[0]), default=None)
    if wanted is None:
        text = f"the driver runs CUDA {driver.cuda[0]}.{driver.cuda[1]}; {min(CUPY)}.0 or newer is needed"
        raise UsageError(text, where=where, hint=f"install a driver from {OLDEST_DRIVER[min(CUPY)]} on, {USE_CPU}")
    present = [major for major, name in CUPY.items() if name in found.packages]
    if len(present) > 1:
        names = " and ".join(CUPY.values())
        hint = f"keep one: pip uninstall {CUPY[min(CUPY) if wanted == max(CUPY) else max(CUPY)]}"
        raise UsageError(f"{names} are both installed and would mix their libraries", where=where, hint=hint)
    if not present:
        raise UsageError("CuPy is not installed", where=where, hint=f"pip install 'iosfarm[cuda{wanted}]', {USE_CPU}")
    (major,) = present
    if major > driver.cuda[0]:
        text = f"{CUPY[major]} needs CUDA {major}; the driver runs CUDA {driver.cuda[0]}.{driver.cuda[1]}"
        hint = f"install a driver from {OLDEST_DRIVER[major]} on, or 'iosfarm[cuda{wanted}]' without {CUPY[major]}"
        raise UsageError(text, where=where, hint=hint)
    if index >= len(driver.gpus):
        count = f"there {'are' if len(driver.gpus) > 1 else 'is'} {len(driver.gpus)}"
        raise UsageError(f"there is no GPU {index}", where=where, hint=f"{count}, counted from 0")
    if cudnn:
        _check_cudnn(found, major, where)


def _check_cudnn(found: Findings, major: int, where: str) -> None:
    own = "or use our own convolutions: cuda?provider=iosfarm"
    if FRONTEND not in found.packages:
        raise UsageError(f"{FRONTEND} is not installed", where=where, hint=f"pip install '{FRONTEND}<1.27', {own}")
    if not found.cudnn:
        raise UsageError("cuDNN is not installed", where=where, hint=f"pip install {CUDNN[major]}, {own}")
    if not found.cudart.get(major):
        text = f"{FRONTEND} needs libcudart.so.{major}, which was not found"
        raise UsageError(text, where=where, hint=f"pip install {CUDART[major]}, {own}")
    others = [name for number, name in CUDNN.items() if number != major and name in found.packages]
    if others and CUDNN[major] not in found.packages:
        text = f"{others[0]} does not go with {CUPY[major]}"
        raise UsageError(text, where=where, hint=f"pip install {CUDNN[major]} and uninstall the other, {own}")
    if others:
        text = f"{CUDNN[major]} and {others[0]} are both installed: they overwrite each other's files"
        hint = f"pip uninstall {' '.join(CUDNN.values())}; pip install {CUDNN[major]}"
        raise UsageError(text, where=where, hint=hint)


def usable() -> bool:
    """Whether `cuda` would open: what `auto` asks."""
    try:
        check(look())
    except UsageError:
        return False
    return True
