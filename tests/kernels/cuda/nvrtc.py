"""Compiles kernels for named GPUs with NVRTC from PyPI: no driver, no GPU, no CUDA headers."""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files

import pytest

CUPY = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy 14 adds to a kernel's own options."""

DISTRIBUTION = "nvidia-cuda-nvrtc-cu12"


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel takes: registers of a thread, bytes of shared memory of a block, bytes spilled."""

    kernel: str
    registers: int
    shared: int
    spilled: int


class CompileError(AssertionError):
    """NVRTC refused a source; the message is its log."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """NVRTC, None where it is not installed (there are wheels for x86-64 and aarch64)."""
    try:
        found = [item for item in files(DISTRIBUTION) or () if re.fullmatch(r"libnvrtc\.so\.\d+", item.name)]
    except PackageNotFoundError:
        return None
    return ctypes.CDLL(str(found[0].locate())) if found else None


needs_nvrtc = pytest.mark.skipif(library() is None, reason=f"{DISTRIBUTION} is not installed")


def compile_for(architecture: str, text: str, options: tuple[str, ...]) -> list[Resources]:
    """Compiles to machine code; one entry for each kernel of the source.

    Raises:
        CompileError: the source does not compile.
    """
    nvrtc = library()
    assert nvrtc is not None
    program = ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None))
    try:
        every = [f"-arch={architecture}", "-std=c++17", "--ptxas-options=-v", *options, *CUPY]
        flags = (ctypes.c_char_p * len(every))(*[option.encode() for option in every])
        failed = nvrtc.nvrtcCompileProgram(program, len(every), flags)
        log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
        if failed:
            raise CompileError(f"{architecture} {' '.join(options)}:\n{log[:3000]}")
        size = ctypes.c_size_t()
        _check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        if size.value == 0:
            raise CompileError(f"{architecture} {' '.join(options)}: no machine code")
        return resources(log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def resources(log: str) -> list[Resources]:
    """What ptxas says of each kernel."""
    result = []
    for part in re.split(r"Compiling entry function '", log)[1:]:
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        assert spills, part
        assert registers, part
        result.append(
            Resources(
                part.split("'")[0],
                int(registers[1]),
                int(shared[1]) if shared else 0,
                int(spills[1]) + int(spills[2]),
            )
        )
    return result


def _text(size_of: ctypes._CFuncPtr, read: ctypes._CFuncPtr, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(read(program, buffer))
    return buffer.value.decode(errors="replace")


def _check(code: int) -> None:
    if code:
        raise RuntimeError(f"NVRTC returned error {code}")
