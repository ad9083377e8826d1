"""Takes the place of the module `cudnn` where there is no GPU: the calls that we make of it, computed by torch.

It takes graphs apart as cuDNN does (dims, strides, uids), so that a wrong stride or uid gives wrong numbers, and it can
refuse what a real one may refuse. Its signatures are those of nvidia-cudnn-frontend 1.26.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from host_gpu import HostGpu

__version__ = "1.26.0"

gpu: HostGpu | None = None
refused: set[str] = set()
"""Names of operations that no plan computes."""
plans = 3
"""How many there are for each graph."""
refusing: set[int] = set()
"""Plans that can be built and not executed."""
executed: list[str] = []
"""Names of the plans that were executed."""
_streams: dict[int, int] = {}


class cudnnGraphNotSupportedError(Exception):  # noqa: N801 - cuDNN's own name
    pass


class data_type(enum.Enum):  # noqa: N801
    FLOAT = torch.float32
    HALF = torch.float16
    BFLOAT16 = torch.bfloat16


heur_mode = enum.Enum("heur_mode", "A B FALLBACK")
numerical_note = enum.Enum(
    "numerical_note",
    "DOWN_CONVERT_INPUTS TENSOR_CORE REDUCED_PRECISION_REDUCTION WINOGRAD_TILE_6x6 WINOGRAD_TILE_13x13",
)


def backend_version() -> int:
    return 92400


def create_handle() -> int:
    _streams[len(_streams) + 1] = 0
    return len(_streams)


def set_stream(handle: int, stream: int) -> None:
    _streams[handle] = stream


def destroy_handle(handle: int) -> None:
    del _streams[handle]


@dataclass
class tensor:  # noqa: N801
    dim: list[int] = field(default_factory=list)
    stride: list[int] = field(default_factory=list)
    data_type: Any = None
    uid: int = -1
    make: Callable[[dict[int, torch.Tensor]], torch.Tensor] | None = None
    output: bool = False

    def set_output(self, value: bool) -> tensor:
        self.output = value
        return self

    def set_data_type(self, value: Any) -> tensor:
        self.data_type = value
        return self

    def set_uid(self, value: int) -> tensor:
        self.uid = value
        return self

    def set_dim(self, value: list[int]) -> tensor:
        self.dim = value
        return self

    def set_stride(self, value: list[int]) -> tensor:
        self.stride = value
        return self

    def value(self, given: dict[int, torch.Tensor]) -> torch.Tensor:
        return given[self.uid].to(torch.float64) if self.make is None else self.make(given)


class pygraph:  # noqa: N801
    def __init__(
        self,
        *,
        handle: int,
        io_data_type: Any,
        intermediate_data_type: Any,
        compute_data_type: Any,
        sm_count: int | None = None,
    ) -> None:
        assert handle in _streams
        self._tensors: list[tensor] = []
        self._operations: list[str] = []
        self._built: set[int] = set()
        self._limit: int | None = None
        self.sm_count = sm_count

    def tensor(self, *, name: str, dim: list[int], stride: list[int], data_type: Any, uid: int) -> tensor:
        made = tensor(dim, stride, data_type, uid)
        self._tensors.append(made)
        return made

    def _operation(self, name: str, make: Callable[[dict[int, torch.Tensor]], torch.Tensor]) -> tensor:
        self._operations.append(name)
        made = tensor(make=make)
        self._tensors.append(made)
        return made

    def conv_fprop(
        self,
        *,
        image: tensor,
        weight: tensor,
        padding: list[int],
        stride: list[int],
        dilation: list[int],
        compute_data_type: Any,
    ) -> tensor:
        groups = image.dim[1] // weight.dim[1]
        return self._operation(
            "conv_fprop",
            lambda given: torch.conv2d(
                image.value(given), weight.value(given), None, stride, padding, dilation, groups
            ),
        )

    def bias(self, *, input: tensor, bias: tensor) -> tensor:
        return self._operation("bias", lambda given: input.value(given) + bias.value(given))

    def add(self, *, a: tensor, b: tensor) -> tensor:
        return self._operation("add", lambda given: a.value(given) + b.value(given))

    def relu(self, *, input: tensor, lower_clip: float = 0.0, upper_clip: float | None = None) -> tensor:
        return self._operation("relu", lambda given: input.value(given).clamp(lower_clip, upper_clip))

    def sigmoid(self, *, input: tensor) -> tensor:
        return self._operation("sigmoid", lambda given: torch.sigmoid(input.value(given)))

    def tanh(self, *, input: tensor) -> tensor:
        return self._operation("tanh", lambda given: torch.tanh(input.value(given)))

    def swish(self, *, input: tensor, swish_beta: float) -> tensor:
        assert swish_beta == 1.0
        return self._operation("swish", lambda given: torch.nn.functional.silu(input.value(given)))

    def gelu(self, *, input: tensor) -> tensor:
        return self._operation("gelu", lambda given: torch.nn.functional.gelu(input.value(given)))

    def validate(self) -> None:
        (output,) = [t for t in self._tensors if t.output]
        assert len({t.uid for t in self._tensors if t.make is None or t.output}) == len(
            [t for t in self._tensors if t.make is None or t.output]
        )
        assert len(output.dim) == len(output.stride) == 4

    def build_operation_graph(self) -> None:
        pass

    def create_execution_plans(self, modes: list[Any]) -> None:
        if refused & set(self._operations) or ("sm_count" in refused and self.sm_count is not None):
            raise cudnnGraphNotSupportedError("No valid engine configs")

    def deselect_numeric_notes(self, notes: list[Any]) -> None:
        assert all(isinstance(note, numerical_note) for note in notes)

    def deselect_workspace_greater_than(self, limit: int) -> None:
        self._limit = limit

    def check_support(self) -> None:
        pass

    def get_execution_plan_count(self) -> int:
        return plans

    def get_plan_name_at_index(self, index: int) -> str:
        return f"ConvFwd_eng{index}_k2={len(self._operations)}"

    def build_plan_at_index(self, index: int) -> None:
        if index == 0:
            raise RuntimeError("this engine cannot be built here")
        self._built.add(index)

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        return 100 * index

    def execute_plan_at_index(self, tensors: dict[int, int], workspace: int, index: int, handle: int) -> None:
        assert gpu is not None
        assert index in self._built
        if index in refusing:
            raise cudnnGraphNotSupportedError("not after all")
        assert not any(address % 16 for address in tensors.values())
        stream = gpu.streams[_streams[handle]]
        name = self.get_plan_name_at_index(index)

        def run() -> None:
            executed.append(name)
            assert gpu is not None
            if index:
                gpu.check_inside(workspace, 100 * index)
                _view(workspace, [100 * index], [1], torch.uint8).fill_(0xAB)  # a plan may leave anything there
            given = {
                t.uid: _view(tensors[t.uid], t.dim, t.stride, t.data_type.value)
                for t in self._tensors
                if t.make is None
            }
            (output,) = [t for t in self._tensors if t.output]
            target = _view(tensors[output.uid], output.dim, output.stride, output.data_type.value)
            target.copy_(output.value(given).to(target.dtype))

        gpu.put(stream, run)


def _view(address: int, dim: list[int], stride: list[int], dtype: torch.dtype) -> torch.Tensor:
    """The host memory at an address as a tensor."""
    import ctypes

    assert gpu is not None
    size = (sum((d - 1) * s for d, s in zip(dim, stride, strict=True)) + 1) * dtype.itemsize
    gpu.check_inside(address, size)
    memory = np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
    return torch.as_strided(torch.from_numpy(memory).view(dtype), dim, stride)
