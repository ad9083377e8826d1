"""Results that are written straight into some channels of a larger image, so that nobody has to concatenate them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from iosfarm.ir.graph import DTYPES
from iosfarm.ir.operators import Shape
from iosfarm.kernels.cuda.catalogue.launch import Pointer


@dataclass(frozen=True)
class Part:
    """pitch: channels of the larger image, which is NHWC; first: the first of ours in it."""

    pitch: int
    first: int


@dataclass(frozen=True)
class Target:
    """Where a kernel writes a result of so many channels. pitch: elements from one pixel to the next; counts: what the
    elements of one access must divide, beside the channels.
    """

    pointer: Pointer
    channels: int
    pitch: int
    counts: tuple[int, ...]


def target(part: Part | None, channels: int, dtype: str) -> Target:
    """None: a tensor of its own."""
    if part is None:
        return Target(Pointer("output"), channels, channels, ())
    return Target(Pointer("output", part.first * DTYPES[dtype]), channels, part.pitch, (part.pitch, part.first))


def flat_target(part: Part | None, shape: Shape, dtype: str) -> Target:
    """For kernels that go through a tensor element by element, whatever its shape: pixels count only for a part."""
    if part is None:
        return target(None, 1, dtype)
    to = target(part, shape[1], dtype)
    return replace(to, counts=(shape[1], *to.counts))
