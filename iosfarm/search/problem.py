"""`PartProblem`: a part's state space with the stage behind every ending. Equal parts share one problem."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from iosfarm.ir.device import canonical_json
from iosfarm.ir.key import PlacedStage, StageFactory
from iosfarm.ir.stage import Stage
from iosfarm.search.parts import Part
from iosfarm.search.space import SpaceSettings, StateSpace, part_space


class PartProblem:
    """The stages of one part's state space. Stage numbers are those of `space`."""

    def __init__(self, part: Part, settings: SpaceSettings, layout: str) -> None:
        self.part = part
        self.space: StateSpace = part_space(part, settings)
        self._factory = StageFactory(part.graph, layout)
        self._local = {unit: i for i, unit in enumerate(part.units)}
        self.keys: list[str] = []
        """Key of each stage; equal where stages of the part are isomorphic."""
        self.groups: list[tuple[tuple[int, ...], ...]] = []
        """Groups of each stage, units numbered within the part, in the stage's own order."""
        for number in range(self.space.stage_count):
            placed = self._place(number)
            self.keys.append(placed.key)
            self.groups.append(tuple([tuple([self._local[unit] for unit in group]) for group in placed.groups]))

    def stage(self, number: int) -> Stage:
        """The stage of a number; made anew at each call, because few of the many are ever needed."""
        return self._place(number).stage

    def _place(self, number: int) -> PlacedStage:
        units = self.part.units
        groups = [[units[i] for i in group] for group in self.space.groups(number)]
        return self._factory.make(groups, self.space.strategy(number))

    @cached_property
    def singles(self) -> list[int]:
        """Stage number of each unit alone."""
        alone = {self.space.stage_units(n): n for n in range(len(self.space.endings))}
        return [alone[1 << i] for i in range(len(self.part.units))]


def problems(parts: Sequence[Part], settings: SpaceSettings, layout: str) -> list[PartProblem]:
    """A problem for each part, in order; parts that look the same get the same object."""
    known: dict[str, PartProblem] = {}
    result = []
    for part in parts:
        signature = part_signature(part)
        if signature not in known:
            known[signature] = PartProblem(part, settings, layout)
        result.append(known[signature])
    return result


def part_signature(part: Part) -> str:
    """Equal for parts that are written down alike: the same units in the same order, names aside."""
    graph = part.graph
    number: dict[str, int] = {}
    outside: dict[str, int] = {}
    units = []
    for unit in part.units:
        operators: list[object] = []
        for name in graph.units[unit].operators:
            operator = graph.operator(name)
            reads = []
            for i in operator.inputs:
                reads.append(number[i] if i in number else -1 - outside.setdefault(i, len(outside)))
            number[name] = len(number)
            operators.append([operator.kind, dict(operator.attributes), reads])
        units.append(operators)
    return canonical_json([units, [graph.shape(name) for name in outside], graph.dtype])
