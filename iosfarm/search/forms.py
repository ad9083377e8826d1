"""Stages of a schedule as refinement sees them: which units share a stream, and what is merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import mergeable


@dataclass(frozen=True)
class Stream:
    """Unit indices, ascending, that run in order or, where `merged`, as one convolution."""

    units: tuple[int, ...]
    merged: bool = False


@dataclass(frozen=True)
class Form:
    """What one stage runs side by side. part: where it belongs."""

    part: int
    streams: tuple[Stream, ...]

    @property
    def strategy(self) -> str:
        """`concurrent`, `merge` or `mixed`."""
        if not any(stream.merged for stream in self.streams):
            return "concurrent"
        return "merge" if len(self.streams) == 1 else "mixed"

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Groups as `StageFactory.make` takes them."""
        if self.strategy == "merge":
            return [(unit,) for unit in self.streams[0].units]
        return [stream.units for stream in self.streams]

    @property
    def units(self) -> frozenset[int]:
        """All units."""
        return frozenset(unit for stream in self.streams for unit in stream.units)


@dataclass(frozen=True)
class Move:
    """Stages `position`, … are replaced: as many as `replaced`, by `forms`."""

    position: int
    replaced: int
    forms: tuple[Form, ...]
    description: str


def form_of(graph: Graph, part: int, strategy: str, groups: Sequence[Sequence[int]]) -> Form:
    """The form of a stage that is valid."""
    if strategy == "merge":
        return Form(part, (Stream(tuple(sorted(unit for group in groups for unit in group)), True),))
    mixed = strategy == "mixed"
    return Form(part, tuple(Stream(tuple(sorted(group)), mixed and mergeable(graph, group)) for group in groups))
