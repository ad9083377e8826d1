"""What searching on a GPU needs, none of it required: driver, CuPy for its CUDA, cuDNN and its frontend."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from iosfarm.cli.checks import Check, CheckStatus

CUPY_VARIANTS = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}  # distribution -> major version of CUDA
CUDNN_WHEELS = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
FRONTEND = "nvidia-cudnn-frontend"
FRONTEND_RANGE = ((1, 25), (1, 27))  # from, below; 1.27 and later pull in large packages
MIN_CUDA = 12
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE: the driver works and shows no GPU


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
        return _check("cuda driver", "missing", "no libcuda", "for --device cuda: install NVIDIA's driver")
    except RuntimeError as error:
        todo = "see what nvidia-smi says; reload or reinstall the driver"
        return _check("cuda driver", "problem", str(error), todo)
    detail = f"CUDA {found.cuda[0]}.{found.cuda[1]}: {', '.join(found.gpus) or 'no GPU'}"
    if not found.gpus:
        return _check("cuda driver", "missing", detail, "give this machine or container a GPU")
    if found.cuda[0] < MIN_CUDA:
        return _check("cuda driver", "problem", detail, f"install a driver for CUDA {MIN_CUDA} or newer")
    return _check("cuda driver", "ok", detail)


def cupy() -> Check:
    """CuPy: one variant, for a CUDA that the driver runs."""
    try:
        runs = probe_driver().cuda[0]
    except (OSError, RuntimeError):
        runs = None
    return judge_cupy({name: found for name in CUPY_VARIANTS if (found := installed(name))}, runs)


def judge_cupy(variants: dict[str, str], driver_major: int | None) -> Check:
    """`variants`: the CuPy distributions installed -> version; `driver_major`: None without a driver."""
    detail = ", ".join(f"{name} {number}" for name, number in variants.items())
    extra = f"cuda{13 if driver_major is not None and driver_major >= 13 else 12}"
    if not variants:
        todo = f"for --device cuda: pip install 'iosfarm[{extra}]'"
        return _check("cupy", "missing", "not installed", todo)
    if len(variants) > 1:
        # With both CUDA majors installed, the older one loads the newer one's compiler.
        todo = f"keep one: pip uninstall {' '.join(variants)}, then pip install 'iosfarm[{extra}]'"
        return _check("cupy", "problem", detail, todo)
    (name,) = variants
    if driver_major is not None and CUPY_VARIANTS[name] > driver_major:
        swap = f"pip uninstall {name}, then pip install 'iosfarm[{extra}]'"
        todo = f"the driver runs CUDA {driver_major} at most: {swap}"
        return _check("cupy", "problem", detail, todo)
    return _check("cupy", "ok", detail)


def cudnn(system_library: str = "libcudnn.so.9") -> Check:
    """The cuDNN library: from its wheel, else the system's."""
    wheels = {name: found for name in CUDNN_WHEELS if (found := installed(name))}
    if len(wheels) > 1:
        detail = ", ".join(f"{name} {number}" for name, number in wheels.items())
        todo = f"keep the one for your CuPy: pip uninstall {' '.join(wheels)}, then install that one again"
        return _check("cudnn", "problem", detail, todo)
    if wheels:
        ((name, number),) = wheels.items()
        return _check("cudnn", "ok", f"{name} {number}")
    try:
        library = ctypes.CDLL(system_library)
    except OSError:
        todo = "for --device cuda: pip install nvidia-cudnn-cu12 (or -cu13, as your CuPy)"
        return _check("cudnn", "missing", f"neither a wheel nor {system_library}", todo)
    library.cudnnGetVersion.restype = ctypes.c_size_t
    number = library.cudnnGetVersion()
    return _check("cudnn", "ok", f"{number // 10000}.{number % 10000 // 100}.{number % 100} of the system")


def cudnn_frontend() -> Check:
    """nvidia-cudnn-frontend within the range that iosfarm is written for."""
    return judge_frontend(installed(FRONTEND))


def judge_frontend(number: str | None) -> Check:
    """`number`: the version installed, None where it is not."""
    wanted = f"{FRONTEND}>={_dotted(FRONTEND_RANGE[0])},<{_dotted(FRONTEND_RANGE[1])}"
    if number is None:
        todo = f"for --device cuda: pip install '{wanted}'"
        return _check("cudnn frontend", "missing", "not installed", todo)
    release = tuple(int(part) for part in number.split(".")[:2])
    if not FRONTEND_RANGE[0] <= release < FRONTEND_RANGE[1]:
        return _check("cudnn frontend", "problem", number, f"pip install '{wanted}'")
    return _check("cudnn frontend", "ok", number)


def installed(distribution: str) -> str | None:
    """The installed version of a distribution, None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _dotted(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))


def _check(name: str, status: CheckStatus, detail: str, todo: str = "") -> Check:
    return Check(name, status, detail, todo, required=False)
