"""From units of a graph to a canonical `Stage`.

A group is written down as `iosfarm.ir.stage_groups` has it. A stage lists its groups, longest first, then by text, and
numbers its inputs as they come up. Where there is a choice (two units with the same text, two groups that are alike, a
group that reads the same in several orders) all are followed, and those that lead to the least text stay. So the text
does not depend on names, on the order in which units came, or on where the stage stands, and it holds all from which
the stage can be rebuilt; the key is its hash.

Of very symmetric stages only `MOST_NUMBERINGS` choices are followed. Choices are nearly always images of each other
under a symmetry; where they are not, two equal stages can get two keys, which costs a measurement made twice and never
a wrong one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from iosfarm.ir.device import canonical_json
from iosfarm.ir.graph import Graph
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_groups import MOST_NUMBERINGS, Group, GroupWriter, Reading
from iosfarm.ir.stage_units import KEY_VERSION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from iosfarm.ir.identify import Identities, StageClasses


@dataclass(frozen=True)
class PlacedStage:
    """A stage and where it stands in a graph.

    canonical, key: as of `stage`, which is made when it is first asked for. groups: indices of units, inputs: names of
    tensors, both in the stage's own order.
    """

    canonical: str
    key: str
    groups: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]

    @cached_property
    def stage(self) -> Stage:
        """The stage itself."""
        return Stage.from_json(self.canonical)


@dataclass(frozen=True)
class _Numbering:
    """Groups chosen so far, and the numbers of the inputs that they read."""

    numbers: dict[str, int]
    chosen: tuple[Reading, ...]
    left: tuple[int, ...]


class StageFactory:
    """Makes the stages of one graph in one layout; what depends on single units or groups is computed once.

    One thread at a time may use it. Classes of equal stages are numbered from 0, over all calls of `identify`.
    """

    def __init__(self, graph: Graph, layout: str) -> None:
        self._writer = GroupWriter(graph)
        self._tail = f'"layout":{canonical_json(layout)},"strategy":'
        self._head = f'{{"dtype":{canonical_json(graph.dtype)},"groups":['
        self._keys: dict[int, str] = {}
        self._listed: dict[tuple[int, ...], str] = {}

    # -- one stage -----------------------------------------------------------------------------------------------

    def make(self, groups: Sequence[Sequence[int]], strategy: str = "concurrent") -> PlacedStage:
        """The stage of these groups of unit indices; neither groups nor units need be in any order."""
        known = [self._writer.group(tuple(sorted(group))) for group in groups]
        known.sort(key=lambda group: group.rank)
        readings = _numbered(known)
        numbers: dict[str, int] = {}
        listed = [tuple([numbers.setdefault(name, len(numbers)) for name in r.inputs]) for r in readings]
        canonical = self._text(known, listed, [self._writer.shapes[name] for name in numbers], strategy)
        return PlacedStage(canonical, _hash(canonical), tuple([reading.units for reading in readings]), tuple(numbers))

    def _text(
        self, groups: Iterable[Group], listed: Iterable[tuple[int, ...]], shapes: Iterable[str], strategy: str
    ) -> str:
        """Canonical JSON of groups, in order, with the numbers of the inputs that each reads."""
        texts = []
        for group, numbers in zip(groups, listed, strict=True):
            text = self._listed.get(numbers)
            if text is None:
                text = self._listed[numbers] = ",".join(map(str, numbers))
            texts.append(f'{{"inputs":[{text}],"units":{group.code}}}')
        return (
            f'{self._head}{",".join(texts)}],"inputs":[{",".join(shapes)}],'
            f'{self._tail}"{strategy}","version":{KEY_VERSION}}}'
        )

    # -- many stages ---------------------------------------------------------------------------------------------

    def identify(
        self,
        groups: Sequence[Sequence[int]],
        offsets: NDArray[np.int64],
        members: NDArray[np.int32],
        concurrent_count: int,
    ) -> Identities:
        """The class of each of many stages: equal where `make` gives equal keys, and nowhere else.

        groups: unit indices of the graph, in any order. offsets, members: stage s has the groups
        members[offsets[s] : offsets[s + 1]], each a place in `groups`. concurrent_count: stages with a lower number
        are concurrent, the others merge.
        """
        return self._classes.identify(groups, offsets, members, concurrent_count)

    @property
    def class_count(self) -> int:
        """Classes found so far."""
        return self._classes.count

    def key_of(self, class_number: int) -> str:
        """Key of the stages of a class; computed when it is first asked for."""
        key = self._keys.get(class_number)
        if key is None:
            key = self._keys[class_number] = _hash(self.canonical_of(class_number))
        return key

    def canonical_of(self, class_number: int) -> str:
        """Canonical JSON text of the stages of a class, made anew at each call: all of them would fill the memory."""
        return self._text(*self._classes.read(class_number))

    @cached_property
    def _classes(self) -> StageClasses:
        from iosfarm.ir.identify import StageClasses  # which loads numpy

        return StageClasses(self._writer)

    # -- what a model of latencies needs ---------------------------------------------------------------------------

    @property
    def unit_flops(self) -> tuple[int, ...]:
        """Floating-point operations of each unit of the graph."""
        return self._writer.unit_flops

    @property
    def unit_bytes(self) -> tuple[int, ...]:
        """Bytes that each unit's operators read (inputs and weights) and write, each once."""
        return self._writer.unit_bytes

    def group_code(self, units: Sequence[int]) -> int:
        """A number from 0 for a group: the same for groups that are written alike and read the same shapes."""
        return self._writer.group(tuple(sorted(units))).number


def canonical_stage(
    graph: Graph, groups: Sequence[Sequence[int]], strategy: str = "concurrent", layout: str = "nhwc"
) -> PlacedStage:
    """The stage of these groups of unit indices; use a `StageFactory` for many."""
    return StageFactory(graph, layout).make(groups, strategy)


def _numbered(groups: Sequence[Group]) -> tuple[Reading, ...]:
    """A reading of each group such that the inputs' numbers, in order, are least. Groups of one code may swap."""
    if len(groups) == 1:
        return groups[0].readings[:1]  # whatever it reads, the numbers are 0, 1, …
    if all(len(group.readings) == 1 for group in groups) and not any(map(_alike, groups, groups[1:])):
        return tuple([group.readings[0] for group in groups])  # nothing to choose
    open_ = [_Numbering({}, (), ())]
    start = 0
    while start < len(groups):
        end = start + 1
        while end < len(groups) and _alike(groups[start], groups[end]):
            end += 1
        open_ = [_Numbering(n.numbers, n.chosen, tuple(range(start, end))) for n in open_]
        for _ in range(start, end):
            open_ = _extend(open_, groups)
        start = end
    return open_[0].chosen


def _alike(one: Group, other: Group) -> bool:
    return one.number == other.number


def _extend(open_: list[_Numbering], groups: Sequence[Group]) -> list[_Numbering]:
    """Choose one more group in each numbering; keep those whose new numbers are least.

    No two that are kept number their inputs alike: those that did not before cannot after, and where two readings get
    the same numbers in one numbering, some input that is new there differs.
    """
    best: tuple[int, ...] | None = None
    kept: list[_Numbering] = []
    for numbering in open_:
        tried: set[tuple[str, ...]] = set()
        for index in numbering.left:
            for reading in groups[index].readings:
                if reading.inputs in tried:
                    continue  # a twin: the same code, reading the same tensors
                tried.add(reading.inputs)
                numbers = dict(numbering.numbers)
                listed = tuple([numbers.setdefault(name, len(numbers)) for name in reading.inputs])
                if best is not None and listed > best:
                    continue
                if best is None or listed < best:
                    best, kept = listed, []
                if len(kept) < MOST_NUMBERINGS:
                    left = tuple([i for i in numbering.left if i != index])
                    kept.append(_Numbering(numbers, (*numbering.chosen, reading), left))
    return kept


def _hash(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()
