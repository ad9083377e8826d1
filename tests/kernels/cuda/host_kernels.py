"""Executes a `Launch` of the kernel catalogue on the CPU, through the shim: the same source as on a GPU.

Every buffer lies between guard bands, and all memory that a kernel may not count on is NaN.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iosfarm.kernels.cuda.catalogue import NULL, Launch, Pointer, Scalar, scratch_bytes, source_text

SHIM = Path(__file__).parent / "shim"
GUARD = 256
POISON = 0xFF  # of every byte: NaN in all dtypes
CHECKS = "-fsanitize=alignment,bounds,signed-integer-overflow,shift"
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-w", CHECKS)
COMPILER = shutil.which("g++") or shutil.which("c++")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++ or c++) on this machine")

Bytes = NDArray[np.uint8]


class HostError(AssertionError):
    """A kernel did what a GPU would not forgive."""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="iosfarm-shim-")


def _compile(source: Path, target: Path, *options: str) -> None:
    assert COMPILER is not None
    command = [COMPILER, *FLAGS, *options, "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"{' '.join(options)}:\n{done.stderr[:3000]}")


@functools.cache
def _scheduler() -> Path:
    target = Path(_folder().name) / "shim.o"
    _compile(SHIM / "shim.cpp", target, "-c")
    return target


@functools.cache
def _library(kernel: str, text: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """Compiled once a session. The handlers of the compiler's checks are the shim's, so its own library stays out."""
    code = f'#include "{SHIM}/shim.h"\n{text}\nSHIM_ENTRY({kernel})\n'
    name = hashlib.sha256("\0".join([code, *options]).encode()).hexdigest()[:16]
    source = Path(_folder().name) / f"{name}.cpp"
    target = source.with_suffix(".so")
    source.write_text(code)
    _compile(source, target, *options, "-shared", "-nodefaultlibs", str(_scheduler()), "-lm", "-lc")
    library = ctypes.CDLL(str(target))
    library.shim_run.restype = ctypes.c_char_p
    return library


class Buffer:
    """Device memory: aligned as a GPU's is, guarded on both sides, poisoned unless it is filled."""

    def __init__(self, size: int, content: Bytes | None = None) -> None:
        self._size = size
        self._memory = np.full(size + 3 * GUARD, POISON, np.uint8)
        start = -self._memory.ctypes.data % GUARD + GUARD
        self._inside = slice(start, start + size)
        if content is not None:
            self._memory[self._inside] = content

    @property
    def address(self) -> int:
        """Of the first byte."""
        return self._memory.ctypes.data + self._inside.start

    @property
    def content(self) -> Bytes:
        """A copy of the bytes."""
        return self._memory[self._inside].copy()

    def check(self, name: str) -> None:
        """Raises HostError where a guard band was written to."""
        before, after = self._memory[: self._inside.start], self._memory[self._inside.stop :]
        if (before != POISON).any() or (after != POISON).any():
            raise HostError(f"a kernel wrote outside of {name}")


def execute(
    launches: Sequence[Launch],
    inputs: Mapping[str, Bytes],
    output_bytes: int,
    *,
    seed: int = 0,
    texts: Mapping[str, str] | None = None,
) -> Bytes:
    """The bytes of `output` after all launches; HostError where a kernel did wrong.

    inputs: the bytes of every other buffer. texts: source texts to use in place of the catalogue's own.
    """
    buffers = {name: Buffer(len(content), content) for name, content in inputs.items()}
    buffers["output"] = Buffer(output_bytes)
    buffers["scratch"] = Buffer(scratch_bytes(launches))
    for number, launch in enumerate(launches):
        text = (texts or {}).get(launch.source) or source_text(launch.source)
        _launch(_library(launch.kernel, text, launch.options), launch, buffers, seed + number)
    for name, buffer in buffers.items():
        buffer.check(name)
        if name in inputs and (buffer.content != inputs[name]).any():
            raise HostError(f"a kernel wrote to {name}")
    return buffers["output"].content


def _launch(library: ctypes.CDLL, launch: Launch, buffers: Mapping[str, Buffer], seed: int) -> None:
    values = [_value(argument, buffers) for argument in launch.arguments]
    if len(values) != library.shim_parameters():
        raise HostError(f"{launch.kernel} takes {library.shim_parameters()} arguments, not {len(values)}")
    pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
    triple = ctypes.c_uint * 3
    error = library.shim_run(triple(*launch.grid), triple(*launch.block), pointers, seed)
    if error:
        raise HostError(f"{launch.kernel}: {error.decode()}")


def _value(argument: Pointer | Scalar, buffers: Mapping[str, Buffer]) -> ctypes._SimpleCData[object]:
    if isinstance(argument, Scalar):
        return ctypes.c_int32(int(argument.value)) if argument.kind == "int32" else ctypes.c_float(argument.value)
    return ctypes.c_void_p(0 if argument == NULL else buffers[argument.name].address + argument.offset)


def to_bytes(tensor: torch.Tensor, dtype: str) -> Bytes:
    """A tensor's elements in the order of its axes, rounded to a dtype."""
    # A copy: the strides of axes of size 1 may be anything, and a view as bytes minds them.
    elements = torch.empty(tensor.numel(), dtype=getattr(torch, dtype)).copy_(tensor.reshape(-1))
    return elements.view(torch.uint8).numpy()


def from_bytes(content: Bytes, dtype: str, shape: Sequence[int]) -> torch.Tensor:
    """The float64 values of elements of a dtype."""
    return torch.from_numpy(content.copy()).view(getattr(torch, dtype)).to(torch.float64).reshape(tuple(shape))


def without_barrier(text: str, number: int) -> str:
    """A source text without its barrier of that number."""
    places = [match.span() for match in re.finditer(r"__syncthreads\(\);", text)]
    begin, end = places[number]
    return text[:begin] + ";" + text[end:]
