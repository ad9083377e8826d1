"""A program for a GPU: the values it computes with, and the steps that compute them, in the order of launching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from iosfarm.ir.operators import Shape
from iosfarm.kernels.cuda.catalogue.part import Part
from iosfarm.kernels.cuda.device.gpu import Stream
from iosfarm.kernels.cuda.program.parameters import Block

Addresses = Sequence[int]
"""Device addresses of a step's values, in the order in which its call expects them."""


class Lane(Protocol):
    """A stream, and what libraries need to work on it."""

    @property
    def stream(self) -> Stream: ...

    @property
    def cudnn(self) -> int:
        """The cuDNN handle that works on this stream; made when it is first asked for."""
        ...


class Call(Protocol):
    """Something that can be put on a stream. Prepared: it allocates nothing, and may be captured."""

    @property
    def parameters(self) -> Block:
        """The weights that it uses."""
        ...

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory that it needs while it runs."""
        ...

    @property
    def name(self) -> str:
        """For people: what runs."""
        ...

    def enqueue(self, lane: Lane, reads: Addresses, writes: Addresses, parameters: int, workspace: int) -> None:
        """Put it on the lane's stream. parameters: address of the step's weights; workspace: of its scratch memory."""
        ...


@dataclass(frozen=True)
class Value:
    """A tensor, dense, NHWC if it has four dimensions. shape: as the graph has it (NCHW). size: bytes."""

    shape: Shape
    size: int


@dataclass(frozen=True)
class Into:
    """key: canonical text of what is computed, on which shapes. make: the call for a part; None where there is none."""

    key: str
    make: Callable[[Part], Call | None]


@dataclass(frozen=True)
class Step:
    """One call. reads, writes: numbers of values, in the order in which the call expects them. scratch: the value that
    is its workspace, None where it needs none. operators: numbers of those whose weights it uses, several where they
    are merged; empty for none. stage, group: where it comes from; units: which of the stage's, several if merged. into:
    how its result could be written to a part of a larger image; None where it could not. joins: it concatenates
    channels.
    """

    call: Call
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    scratch: int | None
    operators: tuple[int, ...]
    stage: int
    group: int
    units: tuple[int, ...] = ()
    into: Into | None = None
    joins: bool = False

    @property
    def touched(self) -> tuple[int, ...]:
        """All values that it reads or writes."""
        own = () if self.scratch is None else (self.scratch,)
        return (*self.reads, *self.writes, *own)


@dataclass(frozen=True)
class Program:
    """Steps, and what they work on.

    inputs: values that are there before. outputs: values to hand out, which may be inputs. shapes: of what is handed
    out, which can be other than the values' own: a view of a tensor has its memory.
    """

    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[Shape, ...]
