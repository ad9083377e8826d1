"""From units of a graph to a canonical `Stage`.

A group is written down unit by unit, operators and inputs numbered as they come up; of the units that may come next,
the one with the least text does. A stage lists its groups, longest first, then by text, and numbers its inputs as they
come up. Where there is a choice (two units with the same text, two groups that are alike, a group that reads the same
in several orders) all are followed, and those that lead to the least text stay. So the text does not depend on names,
on the order in which units came, or on where the stage stands, and it holds all from which the stage can be rebuilt;
the key is its hash.

Of very symmetric stages only `MOST_NUMBERINGS` choices are followed. Choices are nearly always images of each other
under a symmetry; where they are not, two equal stages can get two keys, which costs a measurement made twice and never
a wrong one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from iosfarm.ir.device import canonical_json
from iosfarm.ir.graph import DTYPES, Graph
from iosfarm.ir.operators import Shape, spec
from iosfarm.ir.stage import KEY_VERSION, Stage

MOST_NUMBERINGS = 64
"""Ways to write down a symmetric group or stage that are followed at once."""


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
class _Reading:
    """One order in which a group has its code: the units in that order and the tensors that it reads, as they come."""

    units: tuple[int, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class _Writing:
    """A group, written down as far as `order`: numbers of its operators and inputs, the text of each unit."""

    number: dict[str, int]
    inputs: dict[str, int]
    texts: tuple[str, ...]
    order: tuple[int, ...]
    left: tuple[int, ...]

    @property
    def reading(self) -> _Reading:
        return _Reading(self.order, tuple(self.inputs))


@dataclass(frozen=True)
class _Group:
    """work: an estimate to order groups by. code: canonical JSON of the units. shapes: of what they read, in order.
    readings: all that have this code and these shapes.
    """

    work: int
    code: str
    shapes: str
    readings: tuple[_Reading, ...]


@dataclass(frozen=True)
class _Numbering:
    """Groups chosen so far, and the numbers of the inputs that they read."""

    numbers: dict[str, int]
    chosen: tuple[_Reading, ...]
    left: tuple[int, ...]


class StageFactory:
    """Makes the stages of one graph in one layout; what depends on single units or groups is computed once."""

    def __init__(self, graph: Graph, layout: str) -> None:
        self._graph = graph
        self._groups: dict[tuple[int, ...], _Group] = {}
        self._work = [sum(self._operator_work(name) for name in unit.operators) for unit in graph.units]
        self._shapes = {name: canonical_json(shape) for name, shape in graph.shapes.items()}
        self._tail = f'"layout":{canonical_json(layout)},"strategy":'
        self._head = f'{{"dtype":{canonical_json(graph.dtype)},"groups":['

    def _operator_work(self, name: str) -> int:
        operator = self._graph.operator(name)
        shapes = self._graph.input_shapes(operator)
        weights = spec(operator.kind).parameters(operator.attributes, shapes).values()
        moved = sum(map(_size, (*shapes, *weights, self._graph.shape(name)))) * DTYPES[self._graph.dtype]
        # Only an order of launching: a floating-point operation and a tenth of a byte are taken to cost the same.
        return self._graph.flops(operator) + 10 * moved

    def make(self, groups: Sequence[Sequence[int]], strategy: str = "concurrent") -> PlacedStage:
        """The stage of these groups of unit indices; neither groups nor units need be in any order."""
        known = [self._group(tuple(sorted(group))) for group in groups]
        known.sort(key=lambda group: (-group.work, group.code, group.shapes))
        readings = self._numbered(known)
        numbers: dict[str, int] = {}
        texts = []
        for group, reading in zip(known, readings, strict=True):
            listed = ",".join([str(numbers.setdefault(name, len(numbers))) for name in reading.inputs])
            texts.append(f'{{"inputs":[{listed}],"units":{group.code}}}')
        shapes = ",".join([self._shapes[name] for name in numbers])
        canonical = (
            f'{self._head}{",".join(texts)}],"inputs":[{shapes}],{self._tail}"{strategy}","version":{KEY_VERSION}}}'
        )
        key = hashlib.sha256(canonical.encode()).hexdigest()
        return PlacedStage(canonical, key, tuple(reading.units for reading in readings), tuple(numbers))

    def _numbered(self, groups: Sequence[_Group]) -> tuple[_Reading, ...]:
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

    def _group(self, units: tuple[int, ...]) -> _Group:
        known = self._groups.get(units)
        if known is None:
            open_ = [_Writing({}, {}, (), (), units)]
            for _ in units:
                open_ = self._write_next(open_)
            readings = {w.reading.inputs: w.reading for w in open_}
            texts = open_[0].texts
            shapes = "".join([self._shapes[name] for name in open_[0].inputs])
            work = sum(self._work[unit] for unit in units)
            known = _Group(work, f"[{','.join(texts)}]", shapes, tuple(readings.values()))
            self._groups[units] = known
        return known

    def _write_next(self, open_: list[_Writing]) -> list[_Writing]:
        """Write one more unit in each; keep those whose text, with the shapes of what it reads first, is least."""
        before = self._graph.unit_predecessors
        best: tuple[str, str] | None = None
        kept: list[_Writing] = []
        for writing in open_:
            for unit in writing.left:
                if any(other in before[unit] for other in writing.left):
                    continue
                longer = self._write(writing, unit)
                fresh = list(longer.inputs)[len(writing.inputs) :]
                text = (longer.texts[-1], "".join([self._shapes[name] for name in fresh]))
                if best is None or text < best:
                    best, kept = text, []
                if text == best and len(kept) < MOST_NUMBERINGS:
                    kept.append(longer)
        return kept

    def _write(self, writing: _Writing, unit: int) -> _Writing:
        number, inputs = dict(writing.number), dict(writing.inputs)
        operators: list[object] = []
        for name in self._graph.units[unit].operators:
            operator = self._graph.operator(name)
            references = [number[i] if i in number else -1 - inputs.setdefault(i, len(inputs)) for i in operator.inputs]
            number[name] = len(number)
            operators.append([operator.kind, dict(operator.attributes), references])
        left = tuple([other for other in writing.left if other != unit])
        return _Writing(number, inputs, (*writing.texts, canonical_json(operators)), (*writing.order, unit), left)


def canonical_stage(
    graph: Graph, groups: Sequence[Sequence[int]], strategy: str = "concurrent", layout: str = "nhwc"
) -> PlacedStage:
    """The stage of these groups of unit indices; use a `StageFactory` for many."""
    return StageFactory(graph, layout).make(groups, strategy)


def _alike(one: _Group, other: _Group) -> bool:
    return one is other or (one.code == other.code and one.shapes == other.shapes)


def _extend(open_: list[_Numbering], groups: Sequence[_Group]) -> list[_Numbering]:
    """Choose one more group in each numbering; keep those whose new numbers are least."""
    best: tuple[int, ...] | None = None
    kept: list[_Numbering] = []
    seen: set[object] = set()
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
                    best, kept, seen = listed, [], set()
                left = tuple([i for i in numbering.left if i != index])
                state = (tuple(numbers), left)
                if state not in seen and len(kept) < MOST_NUMBERINGS:
                    seen.add(state)
                    kept.append(_Numbering(numbers, (*numbering.chosen, reading), left))
    return kept


def _size(shape: Shape) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
