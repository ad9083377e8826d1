"""What executables of whole schedules can do beside the contract: take tensors, and tell what ran when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class TakesTensors(Protocol):
    """An executable that reads and makes torch tensors without a detour over NumPy."""

    def run_tensors(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Execute once. Inputs: CPU tensors of the graph's shapes and dtype, in any memory format; they are only read.

        Outputs are the caller's own and ordinary tensors; images are channels last where an input is, else contiguous.
        """
        ...


@runtime_checkable
class StaysOnDevice(Protocol):
    """An executable on a device with memory of its own, where inputs and outputs can stay between executions."""

    def put(self, inputs: Sequence[Tensor]) -> None:
        """Inputs of the executions to come, as `TakesTensors.run_tensors` takes them."""
        ...

    def execute(self) -> None:
        """Once, on what was put there last, and wait for its end; nothing is copied from or to the host."""
        ...

    def fetch(self, *, channels_last: bool = False) -> list[Tensor]:
        """Outputs of the last execution: the caller's own, on the CPU."""
        ...


@dataclass(frozen=True)
class Span:
    """One unit, or several merged ones, on a stream; a whole stage where `stream` is None.

    stage: its place in the schedule. begin, end: seconds since the execution began.
    """

    stage: int
    stream: str | None
    units: tuple[str, ...]
    begin: float
    end: float


@runtime_checkable
class Traceable(Protocol):
    """An executable that can tell what ran when."""

    def trace(self) -> list[Span]:
        """Execute once, warm, on the inputs of the last `run` (random ones before) and tell what ran when.

        Clocks are read before and after every unit, so that the whole takes a little longer than `time` says.
        """
        ...


@dataclass(frozen=True)
class Busy:
    """share: of the device that is in use from begin to end, seconds since the execution began; 0 to 1."""

    begin: float
    end: float
    share: float


@runtime_checkable
class TellsUtilisation(Protocol):
    """An executable that can tell how much of the device it uses when."""

    def utilisation(self) -> list[Busy]:
        """In one execution, in order; nothing is in use in between. What is counted is the runtime's to say."""
        ...


def is_channels_last(tensor: Tensor) -> bool:
    """Whether it is an image that lies so, and not what lies in one order only."""
    import torch

    last = torch.channels_last
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=last)
