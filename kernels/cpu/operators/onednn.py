"""oneDNN through its C interface, version 3: https://uxlfoundation.github.io/oneDNN/

The library is that of the package onednn-cpu-gomp, which shares torch's threads: both run on GNU OpenMP.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_float, c_int, c_int64, c_size_t, c_uint, c_void_p
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch

from iosfarm.kernels.cpu.streams import intra_op_threads

PACKAGE = "onednn-cpu-gomp"
MAJOR = 3
CPU, IN_ORDER, INFERENCE, DIRECT, SCRATCH_IS_GIVEN = 1, 1, 96, 1, 1
RELU, TANH, HARD_SIGMOID, LOGISTIC, SWISH, CLIP, HARD_SWISH = 0x20, 0x21, 0x28, 0x29, 0x2C, 0x2E, 0x34
MAX, AVERAGE, AVERAGE_WITH_PADDING = 0x1FF, 0x3FF, 0x2FF
ADD = 0x1FFF0
WEIGHTS_OF, SCRATCH_OF = 131, 136
"""What a primitive wants: descriptions that it can be asked for."""
SRC, OTHER_SRC, DST, WEIGHTS, BIAS, SCRATCHPAD = 1, 2, 17, 33, 41, 80
"""Places of arguments."""
FIRST_SRC = 1024
"""The place of the first of any number of inputs."""
AFTERWARDS = 1 << 15
"""Times 1, 2, … and with the place in it: that of the first, second, … operation that follows the main one."""
MOST_AFTERWARDS = 31
"""How many may follow, an activation beside."""
DTYPES = {torch.float16: 1, torch.bfloat16: 2, torch.float32: 3}
ANY = 1
"""The format that suits the library best."""

FUSED: Mapping[str, tuple[int, float, float] | None] = {
    "none": None,
    "relu": (RELU, 0.0, 0.0),
    "relu6": (CLIP, 0.0, 6.0),
    "sigmoid": (LOGISTIC, 0.0, 0.0),
    "tanh": (TANH, 0.0, 0.0),
    "silu": (SWISH, 1.0, 0.0),
    "hard_sigmoid": (HARD_SIGMOID, 1 / 6, 0.5),
    "hard_swish": (HARD_SWISH, 1 / 6, 0.5),
}
"""Our activations as oneDNN's with their two numbers; gelu is left to torch, whose error function is exact."""

Dims = c_int64 * 12


class Argument(ctypes.Structure):
    """`dnnl_exec_arg_t`."""

    _fields_ = (("place", c_int), ("memory", c_void_p))


class _Version(ctypes.Structure):
    _fields_ = (
        ("major", c_int),
        ("minor", c_int),
        ("patch", c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", c_uint),
        ("gpu_runtime", c_uint),
    )


_MAKES: Mapping[str, tuple[Any, ...]] = {
    "engine_create": (c_int, c_size_t),
    "stream_create": (c_void_p, c_uint),
    "memory_create": (c_void_p, c_void_p, c_void_p),
    "memory_desc_create_with_strides": (c_int, POINTER(c_int64), c_int, POINTER(c_int64)),
    "memory_desc_create_with_tag": (c_int, POINTER(c_int64), c_int, c_int),
    "post_ops_create": (),
    "primitive_attr_create": (),
    "primitive_create": (c_void_p,),
    "reorder_primitive_desc_create": (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    "convolution_forward_primitive_desc_create": (
        *(c_void_p, c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p),
        *(POINTER(c_int64), POINTER(c_int64), POINTER(c_int64), POINTER(c_int64), c_void_p),
    ),
    "pooling_forward_primitive_desc_create": (
        *(c_void_p, c_int, c_int, c_void_p, c_void_p),
        *(POINTER(c_int64), POINTER(c_int64), POINTER(c_int64), POINTER(c_int64), POINTER(c_int64), c_void_p),
    ),
    "binary_primitive_desc_create": (c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_void_p),
    "concat_primitive_desc_create": (c_void_p, c_void_p, c_int, c_int, POINTER(c_void_p), c_void_p),
    "matmul_primitive_desc_create": (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
}
"""Functions that make an object, and their arguments after the place where to put it."""

_DESTROYS = {"primitive_desc_create": "primitive_desc_destroy", "memory_desc_create": "memory_desc_destroy"}
"""What ends an object, by a part of what makes it, where it is not named alike."""


class OneDnnError(Exception):
    """A function has failed; most often because there is no implementation for what was asked."""


class Handle:
    """An object of the library, which ends with this one. As an argument it is the object's address."""

    __slots__ = ("_as_parameter_", "_destroy", "_kept", "address")

    def __init__(self, address: int, destroy: object, kept: object) -> None:
        self.address = address
        self._as_parameter_ = c_void_p(address)
        self._destroy = destroy
        self._kept = kept

    def __del__(self) -> None:
        self._destroy(self.address)  # type: ignore[operator]


class OneDnn:
    """The functions that we use. Raises OSError, AttributeError or OneDnnError if the library is not what we know."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.dnnl_version.restype = POINTER(_Version)
        found = self._library.dnnl_version().contents
        self.version = f"{found.major}.{found.minor}.{found.patch}"
        if found.major != MAJOR:
            raise OneDnnError(f"oneDNN {self.version}")
        for name, arguments in _MAKES.items():
            self._function(name).argtypes = (POINTER(c_void_p), *arguments)
            self._function(_destroyer(name)).argtypes = (c_void_p,)
        self._function("primitive_attr_set_scratchpad_mode").argtypes = (c_void_p, c_int)
        self._function("primitive_attr_set_post_ops").argtypes = (c_void_p, c_void_p)
        self._function("post_ops_append_eltwise").argtypes = (c_void_p, c_int, c_float, c_float)
        self._function("post_ops_append_binary").argtypes = (c_void_p, c_int, c_void_p)
        self._function("memory_desc_get_size").argtypes = (c_void_p,)
        self._function("memory_desc_get_size").restype = c_size_t
        self._function("primitive_desc_query_md").argtypes = (c_void_p, c_int, c_int)
        self._function("primitive_desc_query_md").restype = c_void_p
        self.execute = self._function("primitive_execute")
        """(primitive, stream, how many arguments, address of the first) -> 0 where it went well."""
        self.execute.argtypes = (c_void_p, c_void_p, c_int, c_void_p)
        self.place = self._function("memory_set_data_handle")
        """(memory, address of its data)"""
        self.place.argtypes = (c_void_p, c_void_p)
        self.engine = self.make("engine_create", CPU, 0)

    def make(self, name: str, *arguments: object, kept: object = None) -> Handle:
        """What `dnnl_NAME` makes. kept: what has to live as long.

        Raises:
            OneDnnError: it cannot be made.
        """
        result = c_void_p()
        self.check(name, self._function(name)(byref(result), *arguments))
        return Handle(result.value or 0, self._function(_destroyer(name)), kept)

    def call(self, name: str, *arguments: object) -> int:
        """The result of `dnnl_NAME`."""
        result: int = self._function(name)(*arguments)
        return result

    def check(self, name: str, status: int) -> None:
        """Raise OneDnnError where a function's status is not success."""
        if status:
            raise OneDnnError(f"dnnl_{name}: status {status}")

    def image(self, shape: Sequence[int], dtype: torch.dtype) -> Handle:
        """A description of images in memory, channels last."""
        _, channels, height, width = shape
        return self.described(shape, (channels * height * width, 1, width * channels, channels), dtype)

    def described(self, shape: Sequence[int], strides: Sequence[int] | None, dtype: torch.dtype) -> Handle:
        """A description of a tensor in memory; in whatever format suits the library best where there are no strides."""
        if strides is None:
            return self.make("memory_desc_create_with_tag", len(shape), Dims(*shape), DTYPES[dtype], ANY)
        return self.make("memory_desc_create_with_strides", len(shape), Dims(*shape), DTYPES[dtype], Dims(*strides))

    def setting(self, activation: tuple[int, float, float] | None, added: Sequence[Handle] = ()) -> Handle:
        """How to do it (`dnnl_primitive_attr_t`): in memory of ours; tensors of these descriptions are added to what is
        computed, and an activation of `FUSED` comes in the end.
        """
        setting = self.make("primitive_attr_create")
        self.check("set_scratchpad", self.call("primitive_attr_set_scratchpad_mode", setting, SCRATCH_IS_GIVEN))
        after = self.make("post_ops_create")
        for described in added:
            self.check("append_binary", self.call("post_ops_append_binary", after, ADD, described))
        if activation is not None:
            self.check("append_eltwise", self.call("post_ops_append_eltwise", after, *activation))
        self.check("set_post_ops", self.call("primitive_attr_set_post_ops", setting, after))
        return setting

    def threads(self) -> int:
        """Threads of a primitive that this thread makes now."""
        result: int = self._library.omp_get_max_threads()
        return result

    def _function(self, name: str) -> ctypes._NamedFuncPointer:
        function: ctypes._NamedFuncPointer = getattr(self._library, f"dnnl_{name}")
        return function


def _destroyer(name: str) -> str:
    return next((end for part, end in _DESTROYS.items() if part in name), name.replace("create", "destroy"))


@cache
def onednn() -> OneDnn | None:
    """The library; None where it is not installed, is another one than we know, or has threads of its own."""
    try:
        paths = [file.locate() for file in files(PACKAGE) or [] if file.name == f"libdnnl.so.{MAJOR}"]
        library = OneDnn(Path(str(paths[0])))
    except (PackageNotFoundError, IndexError, OSError, AttributeError, OneDnnError):
        return None
    return library if _shares_threads(library) else None


def _shares_threads(library: OneDnn) -> bool:
    """Whether it runs on the threads that torch's settings are about: a torch with an OpenMP of its own does not."""
    before = torch.get_num_threads()
    for count in (before + 1, before):
        with intra_op_threads(count):
            if library.threads() != count:
                return False
    return True
