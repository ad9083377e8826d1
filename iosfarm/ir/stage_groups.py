"""Groups of units, each written down once: unit by unit, operators and inputs numbered as they come up.

Of the units that may come next, the one with the least text does; where several have it, all are followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from iosfarm.ir.device import canonical_json
from iosfarm.ir.graph import DTYPES, Graph
from iosfarm.ir.operators import spec

MOST_NUMBERINGS = 64
"""Ways to write down a symmetric group or stage that are followed at once."""


@dataclass(frozen=True)
class Reading:
    """One order in which a group has its code: the units in that order and the tensors that it reads, as they come."""

    units: tuple[int, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """work: an estimate to order groups by. code: canonical JSON of the units. shapes: of what they read, in order, as
    JSON. number: the same for groups with the same code and shapes, and for no others. readings: all that have this
    code and these shapes.
    """

    work: int
    code: str
    shapes: tuple[str, ...]
    number: int
    readings: tuple[Reading, ...]

    @cached_property
    def rank(self) -> tuple[int, str, str]:
        """Groups of a stage stand in this order; equal only for groups that are alike."""
        return (-self.work, self.code, "".join(self.shapes))


@dataclass(frozen=True)
class _Writing:
    """A group, written down as far as `order`: numbers of its operators and inputs, the text of each unit."""

    number: dict[str, int]
    inputs: dict[str, int]
    texts: tuple[str, ...]
    order: tuple[int, ...]
    left: tuple[int, ...]


class GroupWriter:
    """Writes down the groups of one graph.

    unit_flops, unit_bytes: floating-point operations of each unit, and the bytes that its operators read (inputs and
    weights) and write; as `Stage.flops` and `Stage.bytes_moved` have them, summed over the unit. alike: by number, the
    first group that has it.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._groups: dict[tuple[int, ...], Group] = {}
        self._numbers: dict[tuple[str, tuple[str, ...]], int] = {}
        self.alike: list[Group] = []
        self.shapes = {name: canonical_json(shape) for name, shape in graph.shapes.items()}
        self.unit_flops = tuple(
            sum(graph.flops(graph.operator(name)) for name in unit.operators) for unit in graph.units
        )
        self.unit_bytes = tuple(sum(self._bytes_moved(name) for name in unit.operators) for unit in graph.units)

    def _bytes_moved(self, name: str) -> int:
        graph, operator = self._graph, self._graph.operator(name)
        shapes = graph.input_shapes(operator)
        weights = spec(operator.kind).parameters(operator.attributes, shapes).values()
        return sum(map(math.prod, (*shapes, *weights, graph.shape(name)))) * DTYPES[graph.dtype]

    def group(self, units: tuple[int, ...]) -> Group:
        """The group of these units, which are in ascending order."""
        known = self._groups.get(units)
        if known is None:
            open_ = [_Writing({}, {}, (), (), units)]
            for _ in units:
                open_ = self._write_next(open_)
            readings = {tuple(w.inputs): Reading(w.order, tuple(w.inputs)) for w in open_}
            code = f"[{','.join(open_[0].texts)}]"
            shapes = tuple([self.shapes[name] for name in open_[0].inputs])
            # Only an order of launching: a floating-point operation and a tenth of a byte are taken to cost the same.
            work = sum([self.unit_flops[unit] + 10 * self.unit_bytes[unit] for unit in units])
            number = self._numbers.setdefault((code, shapes), len(self._numbers))
            known = Group(work, code, shapes, number, tuple(readings.values()))
            if number == len(self.alike):
                self.alike.append(known)
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
                text = (longer.texts[-1], "".join([self.shapes[name] for name in fresh]))
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
