"""`PartProblem`: a part's state space with the class of equal stages behind every ending. Equal parts share one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.device import canonical_json
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import PlacedStage, StageFactory
from iosfarm.search.candidates import check
from iosfarm.search.parts import Part
from iosfarm.search.space import SpaceSettings, StateSpace, part_space

_THREADS = 2
"""Parts enumerated at once; the compiled code runs without Python's lock."""


class PartProblem:
    """The stages of one part's state space. Stage numbers are those of `space`.

    classes: of each stage; stages of one class have the same key, see `StageFactory`, which all parts of a graph share.
    """

    def __init__(self, part: Part, space: StateSpace, factory: StageFactory) -> None:
        self.part = part
        self.space = space
        self.factory = factory
        units = part.units
        groups = [[units[i] for i in space.group_units(number)] for number in range(len(space.group_words))]
        self.classes: NDArray[np.int32] = factory.identify(
            groups, space.stage_groups_offsets, space.stage_groups, len(space.endings)
        ).classes

    def place(self, stage: int) -> PlacedStage:
        """A stage as it stands in the part's graph."""
        units = self.part.units
        groups = [[units[i] for i in group] for group in self.space.groups(stage)]
        return self.factory.make(groups, self.space.strategy(stage))

    @cached_property
    def alone(self) -> NDArray[np.int64]:
        """Stage number of each group of `space` alone."""
        offsets, concurrent = self.space.stage_groups_offsets, len(self.space.endings)
        single = np.flatnonzero(np.diff(offsets[: concurrent + 1]) == 1)
        stages = np.full(len(self.space.group_words), -1, np.int64)
        stages[self.space.stage_groups[offsets[single]]] = single
        return stages

    @cached_property
    def singles(self) -> NDArray[np.int64]:
        """Stage number of each unit alone."""
        stages = np.empty(len(self.part.units), np.int64)
        for group in range(len(self.space.group_words)):
            units = self.space.group_units(group)
            if len(units) == 1:
                stages[units[0]] = self.alone[group]
        return stages


def problems(
    parts: Sequence[Part], settings: SpaceSettings, layout: str, stop: Callable[[], bool] = lambda: False
) -> list[PartProblem]:
    """A problem for each part, in order; parts that look the same get the same object. stop: see `StateSpace`.

    Raises:
        SpaceTooLargeError: a part has too many states or transitions. EnumerationStoppedError: `stop` said so.
    """
    signatures = [part_signature(part) for part in parts]
    distinct = {signature: part for part, signature in reversed(list(zip(parts, signatures, strict=True)))}
    factories: dict[Graph, StageFactory] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda part: part_space(part, settings, stop=stop), distinct.values())
        spaces = dict(zip(distinct, found, strict=True))
    known: dict[str, PartProblem] = {}
    for part, signature in zip(parts, signatures, strict=True):
        if signature not in known:
            check(stop)
            factory = factories.get(part.graph) or factories.setdefault(part.graph, StageFactory(part.graph, layout))
            known[signature] = PartProblem(part, spaces[signature], factory)
    return [known[signature] for signature in signatures]


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
