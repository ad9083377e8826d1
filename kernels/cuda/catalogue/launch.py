"""What a kernel launch is, as plain data: who runs it (a GPU, or the CPU in tests) sees the same launch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Dimensions = tuple[int, int, int]


@dataclass(frozen=True)
class Pointer:
    """A buffer of the device, and how many bytes into it.

    name: `input0`, `input1`, …; `output`; a parameter (`weight`, …); `residual`, what is added to the result before its
    activation; `scratch`, memory that nothing else uses meanwhile; or `null`.
    """

    name: str
    offset: int = 0


NULL = Pointer("null")


@dataclass(frozen=True)
class Scalar:
    """A number, passed by value."""

    value: int | float
    kind: Literal["int32", "float32"]


Arguments = tuple[Pointer | Scalar, ...]


def integers(*values: int) -> tuple[Scalar, ...]:
    """Numbers passed as 32-bit integers."""
    return tuple(Scalar(value, "int32") for value in values)


@dataclass(frozen=True)
class Launch:
    """One kernel launch. Launches of a list run in order, on one stream.

    kernel: its name in `source`, a file of the catalogue, compiled with `options`. grid: blocks; block: threads of each
    (x, y, z). shared_bytes: dynamic shared memory. arguments: in the kernel's order. scratch_bytes: what the pointer
    `scratch` must have room for.
    """

    kernel: str
    source: str
    options: tuple[str, ...]
    grid: Dimensions
    block: Dimensions
    arguments: Arguments
    shared_bytes: int = 0
    scratch_bytes: int = 0


def scratch_bytes(launches: Iterable[Launch]) -> int:
    """Room that a list of launches needs at `scratch`, which they may share."""
    return max((launch.scratch_bytes for launch in launches), default=0)


def flat(threads: int) -> tuple[Dimensions, Dimensions]:
    """Grid and block of a kernel whose threads are numbered through; smaller blocks where there would be few."""
    block = 256 if threads >= 256 * _FILLED else 64
    return (-(-threads // block), 1, 1), (block, 1, 1)


_FILLED = 132  # multiprocessors of the largest GPU so far (H100, H200): each should get a block
