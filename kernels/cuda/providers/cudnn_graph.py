"""Convolutions as graphs of cuDNN's frontend (the module `cudnn`), and their plans. Needs libcudnn."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from iosfarm.ir.operators import Shape
from iosfarm.kernels.cuda.device.probe import cupy_major, find_cudart, find_cudnn, find_nvrtc
from iosfarm.kernels.cuda.providers.convolution import Convolution

_MAJOR = cupy_major() or 13
# cuDNN compiles some of its engines, and looks for the compiler by its name alone, as that does for a part of itself.
with suppress(OSError):  # it has other engines as well
    _COMPILER = [ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) for path in find_nvrtc(_MAJOR)]
_LIBRARIES = (find_cudart(_MAJOR), find_cudnn())
_LOADED = [ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) for path in _LIBRARIES if path]
# The frontend looks in one folder for cuDNN and in none for CUDA's runtime, which CuPy's wheels do not load either; a
# library that is loaded already is found by its name. Of two versions of the runtime it would take the older one.
if _LIBRARIES[0]:
    os.environ.setdefault("CUDNN_FRONTEND_CUDART_LIB_NAME", _LIBRARIES[0])

import cudnn  # noqa: E402 - after the library that it looks for

X, WEIGHT, BIAS, RESIDUAL, Y = range(1, 6)
"""Numbers (uids) of a graph's tensors."""

FUSIONS = ("all", "bias", "none")
"""What one graph computes: the convolution with bias, residual and activation; with the bias; by itself."""

_ACTIVATIONS = {
    "relu": lambda graph, x: graph.relu(input=x),
    "relu6": lambda graph, x: graph.relu(input=x, lower_clip=0.0, upper_clip=6.0),
    "sigmoid": lambda graph, x: graph.sigmoid(input=x),
    "tanh": lambda graph, x: graph.tanh(input=x),
    "silu": lambda graph, x: graph.swish(input=x, swish_beta=1.0),
    "gelu": lambda graph, x: graph.gelu(input=x),
}

NotSupported = (cudnn.cudnnGraphNotSupportedError, RuntimeError)
"""What the frontend raises for what cuDNN cannot do; but also where it cannot do anything, see `why_broken`."""


def version() -> tuple[int, int, int]:
    """Of libcudnn: major, minor, patch."""
    number = int(cudnn.backend_version())
    return number // 10000, number % 10000 // 100, number % 100


def frontend_version() -> str:
    """Of the Python package."""
    return str(cudnn.__version__)


def create_handle() -> int:
    """A handle on the current device."""
    return int(cudnn.create_handle())


def set_stream(handle: int, stream: int) -> None:
    """Have a handle work on a stream (its address)."""
    cudnn.set_stream(handle=handle, stream=stream)


def destroy_handle(handle: int) -> None:
    """Give a handle back."""
    cudnn.destroy_handle(handle)


def why_broken(handle: int) -> str:
    """Why cuDNN cannot plan even a small convolution, as on a machine where its libraries do not go together; empty
    where it can. Without asking, all convolutions would silently be left to our own kernels.
    """
    shape = (1, 64, 8, 8)
    one, none = (1, 1), (0, 0)
    small = Convolution(shape, shape, one, one, none, one, 1, False, "none", False, "float32")
    try:
        ConvolutionGraph(handle, small, "all", "tf32")
    except NotSupported as error:
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""


def fusions(wanted: Convolution) -> tuple[str, ...]:
    """What is worth trying: each name computes more of the convolution than the next, and no two compute the same."""
    plain = not wanted.residual and wanted.activation == "none"
    if plain and wanted.part is None:
        return ("all", "none") if wanted.bias else ("all",)
    complete = wanted.activation == "none" or wanted.activation in _ACTIVATIONS
    if wanted.part is not None:
        return ("all",) if complete else ()  # an epilogue would need memory for what is not written to the part yet
    return (*(("all",) if complete else ()), *(("bias",) if wanted.bias else ()), "none")


class ConvolutionGraph:
    """A convolution, fused as far as `fusion` says, NHWC, and cuDNN's plans for it in the order of its heuristics.

    precision: of float32, `ieee` or `tf32`. sms: plan for so many processors. layout: `nhwc`, or `nchw` for all but the
    weights.

    Raises one of `NotSupported`: cuDNN cannot compute it.
    """

    def __init__(
        self,
        handle: int,
        wanted: Convolution,
        fusion: str,
        precision: str,
        *,
        sms: int | None = None,
        workspace: int | None = None,
        layout: str = "nhwc",
    ) -> None:
        kind = _dtype(wanted.dtype)
        single = cudnn.data_type.FLOAT
        options = {} if sms is None else {"sm_count": sms}
        graph = cudnn.pygraph(
            handle=handle, io_data_type=kind, intermediate_data_type=single, compute_data_type=single, **options
        )
        strides = _strides(layout)
        image = graph.tensor(
            name="x", dim=list(wanted.input), stride=strides(wanted.input, None), data_type=kind, uid=X
        )  # fmt: skip
        weight = graph.tensor(
            name="weight", dim=list(wanted.weight), stride=strides(wanted.weight, None), data_type=kind, uid=WEIGHT
        )  # fmt: skip
        y = graph.conv_fprop(
            image=image,
            weight=weight,
            padding=list(wanted.padding),
            stride=list(wanted.stride),
            dilation=list(wanted.dilation),
            compute_data_type=single,
        )
        if wanted.bias and fusion != "none":
            shape = (1, wanted.output[1], 1, 1)
            bias = graph.tensor(name="bias", dim=list(shape), stride=strides(shape, None), data_type=kind, uid=BIAS)
            y = graph.bias(input=y, bias=bias)
        if wanted.residual and fusion == "all":
            other = graph.tensor(
                name="residual",
                dim=list(wanted.output),
                stride=strides(wanted.output, None),
                data_type=kind,
                uid=RESIDUAL,
            )
            y = graph.add(a=y, b=other)
        if wanted.activation != "none" and fusion == "all":
            y = _ACTIVATIONS[wanted.activation](graph, y)
        y.set_output(True).set_data_type(kind)
        y.set_uid(Y)
        y.set_dim(list(wanted.output))
        y.set_stride(strides(wanted.output, None if wanted.part is None else wanted.part.pitch))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.B, cudnn.heur_mode.FALLBACK])
        graph.deselect_numeric_notes(_refused(wanted.dtype, precision))
        if workspace is not None:
            graph.deselect_workspace_greater_than(workspace)
        graph.check_support()
        self.graph: Any = graph

    def plans(self) -> Iterator[tuple[int, str]]:
        """Index and name of each plan, the most promising first; not built yet, and some cannot be."""
        seen = set()
        for index in range(self.graph.get_execution_plan_count()):
            name = str(self.graph.get_plan_name_at_index(index))
            if name not in seen:
                seen.add(name)
                yield index, name

    def build(self, index: int) -> int | None:
        """Build a plan; returns the bytes of workspace that it needs, None where it cannot be built here."""
        try:
            self.graph.build_plan_at_index(index)
        except NotSupported:
            return None
        return int(self.graph.get_workspace_size_plan_at_index(index))

    def execute(self, index: int, tensors: dict[int, int], workspace: int, handle: int) -> None:
        """Run a plan that was built; tensors: uid -> address.

        Raises:
            RuntimeError: cuDNN offered it, and refuses now.
        """
        try:
            self.graph.execute_plan_at_index(tensors, workspace, index, handle=handle)
        except cudnn.cudnnGraphNotSupportedError as error:
            raise RuntimeError(str(error)) from error


def _refused(dtype: str, precision: str) -> list[Any]:
    """Numerical notes of plans that would compute something less exact than was asked for."""
    note = cudnn.numerical_note
    refused = [note.REDUCED_PRECISION_REDUCTION]
    if dtype == "float32":
        # Winograd with large tiles loses several bits (Lavin and Gray, CVPR 2016, table 3).
        refused += [note.WINOGRAD_TILE_6x6, note.WINOGRAD_TILE_13x13]
        if precision == "ieee":
            refused += [note.DOWN_CONVERT_INPUTS, note.TENSOR_CORE]
    return refused


def _dtype(name: str) -> Any:
    kind = cudnn.data_type
    return {"float32": kind.FLOAT, "float16": kind.HALF, "bfloat16": kind.BFLOAT16}[name]


def _strides(layout: str) -> Any:
    def nhwc(shape: Shape, channels: int | None) -> list[int]:
        _, own, height, width = shape
        row = channels or own
        return [height * width * row, 1, width * row, row]

    def nchw(shape: Shape, channels: int | None) -> list[int]:
        _, own, height, width = shape
        return [(channels or own) * height * width, height * width, width, 1]

    return {"nhwc": nhwc, "nchw": nchw}[layout]
