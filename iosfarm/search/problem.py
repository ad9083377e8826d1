"""`PartProblem`: a part's state space with the stage behind every ending. Equal parts share one problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from iosfarm.ir.device import canonical_json
from iosfarm.ir.key import StageFactory
from iosfarm.ir.stage import Stage
from iosfarm.search.parts import Part
from iosfarm.search.space import SpaceSettings, StateSpace, part_space


@dataclass(frozen=True)
class LocalStage:
    """A stage and its groups, units numbered within the part, in the stage's own order."""

    stage: Stage
    groups: tuple[tuple[int, ...], ...]


class PartProblem:
    """The stages of one part's state space. Stage numbers are those of `space`."""

    def __init__(self, part: Part, settings: SpaceSettings, layout: str) -> None:
        self.part = part
        self.space: StateSpace = part_space(part, settings)
        factory = StageFactory(part.graph, layout)
        local = {unit: i for i, unit in enumerate(part.units)}
        self.stages: list[LocalStage] = []
        for number in range(self.space.stage_count):
            groups = [[part.units[i] for i in group] for group in self.space.groups(number)]
            placed = factory.make(groups, self.space.strategy(number))
            numbered = tuple(tuple(local[unit] for unit in group) for group in placed.groups)
            self.stages.append(LocalStage(placed.stage, numbered))

    @cached_property
    def keys(self) -> list[str]:
        """Key of each stage; equal where stages of the part are isomorphic."""
        return [item.stage.key for item in self.stages]

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
