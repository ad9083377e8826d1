"""From units of a graph to a canonical `Stage`.

Canonical labelling by colour refinement (Weisfeiler and Leman 1968; McKay 1981): operators and inputs are coloured by
what they are, then again and again by the colours around them, until no class splits. Where a tie is left, one of
the tied is set apart and refinement goes on. Tied nodes are nearly always images of each other under a symmetry, and
then it does not matter which; where they are not, two isomorphic stages can get different keys, which costs a
measurement made twice and never a wrong one, because the key is a hash of the whole stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iosfarm.ir.device import canonical_json
from iosfarm.ir.graph import DTYPES, Graph
from iosfarm.ir.operators import Attribute, Shape, spec
from iosfarm.ir.stage import Stage, StageOperator, StageUnit


@dataclass(frozen=True)
class PlacedStage:
    """A stage and where it stands in a graph.

    groups: indices of units, inputs: names of tensors, both in the stage's own order.
    """

    stage: Stage
    groups: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class _Node:
    """An operator of a unit, with inputs by name."""

    name: str
    kind: str
    attributes: dict[str, Attribute]
    inputs: tuple[str, ...]
    shape: Shape
    label: str  # everything about the operator alone
    work: int


class StageFactory:
    """Makes the stages of one graph in one layout; what depends on single operators is computed once."""

    def __init__(self, graph: Graph, layout: str) -> None:
        self._graph = graph
        self._layout = layout
        self._nodes: list[tuple[_Node, ...]] = []
        for unit in graph.units:
            self._nodes.append(tuple(self._node(name, i, len(unit.operators)) for i, name in enumerate(unit.operators)))

    def _node(self, name: str, position: int, count: int) -> _Node:
        operator = self._graph.operator(name)
        shapes = self._graph.input_shapes(operator)
        shape = self._graph.shape(name)
        # Which inputs are the same tensor is said here, because colours cannot tell x + x from x + y where x is like y.
        same = [operator.inputs.index(i) for i in operator.inputs]
        label = canonical_json([operator.kind, dict(operator.attributes), shapes, same, shape, position, count])
        weights = spec(operator.kind).parameters(operator.attributes, shapes).values()
        moved = sum(_size(s) for s in (*shapes, *weights, shape)) * DTYPES[self._graph.dtype]
        # Only an order of launching: a floating-point operation and a tenth of a byte are taken to cost the same.
        work = self._graph.flops(operator) + 10 * moved
        return _Node(name, operator.kind, dict(operator.attributes), operator.inputs, shape, label, work)

    def make(self, groups: Sequence[Sequence[int]], strategy: str = "concurrent") -> PlacedStage:
        """The stage of these groups of unit indices, in any order."""
        nodes = [node for group in groups for unit in group for node in self._nodes[unit]]
        inside = {node.name for node in nodes}
        inputs = list(dict.fromkeys(i for node in nodes for i in node.inputs if i not in inside))
        rank = _canonical_ranks(nodes, inputs, self._graph.shapes, [
            [[node.name for node in self._nodes[unit]] for unit in group] for group in groups
        ])  # fmt: skip
        ordered = [self._order(group, rank) for group in groups]
        ordered.sort(key=lambda group: (-self._work(group), [rank[self._nodes[u][-1].name] for u in group]))
        number: dict[str, int] = {}
        input_number: dict[str, int] = {}
        stage_groups = []
        for group in ordered:
            units = []
            for unit in group:
                first = len(number)
                operators = []
                for node in self._nodes[unit]:
                    references = []
                    for i in node.inputs:
                        if i in inside:
                            references.append(number[i])
                        else:
                            references.append(-1 - input_number.setdefault(i, len(input_number)))
                    number[node.name] = len(number)
                    operators.append(StageOperator(node.kind, node.attributes, tuple(references), node.shape))
                units.append(StageUnit(first, tuple(operators)))
            stage_groups.append(tuple(units))
        names = tuple(input_number)
        stage = Stage(
            strategy, self._graph.dtype, self._layout, tuple(self._graph.shape(n) for n in names), tuple(stage_groups)
        )
        return PlacedStage(stage, tuple(ordered), names)

    def _work(self, group: Sequence[int]) -> int:
        return sum(node.work for unit in group for node in self._nodes[unit])

    def _order(self, group: Sequence[int], rank: dict[str, int]) -> tuple[int, ...]:
        """Topological order of a group's units; among those that are ready, by rank."""
        waiting = sorted(group, key=lambda unit: rank[self._nodes[unit][-1].name])
        before = self._graph.unit_predecessors
        pending = set(group)
        order = []
        while waiting:
            unit = next(u for u in waiting if not pending.intersection(before[u]))
            waiting.remove(unit)
            pending.remove(unit)
            order.append(unit)
        return tuple(order)


def canonical_stage(
    graph: Graph, groups: Sequence[Sequence[int]], strategy: str = "concurrent", layout: str = "nhwc"
) -> PlacedStage:
    """The stage of these groups of unit indices; use a `StageFactory` for many."""
    return StageFactory(graph, layout).make(groups, strategy)


def _size(shape: Shape) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _canonical_ranks(
    nodes: Sequence[_Node],
    inputs: Sequence[str],
    shapes: Mapping[str, Shape],
    groups: Sequence[Sequence[Sequence[str]]],
) -> dict[str, int]:
    """A rank for every node and input that does not depend on names or on the order they came in."""
    names = [*(node.name for node in nodes), *inputs]
    index = {name: i for i, name in enumerate(names)}
    colours = _ranked([*(node.label for node in nodes), *(f"input {shapes[name]}" for name in inputs)])
    reads = [[index[i] for i in node.inputs] for node in nodes] + [[] for _ in inputs]
    readers: list[list[tuple[int, int]]] = [[] for _ in names]
    for reader, sources in enumerate(reads):
        for position, source in enumerate(sources):
            readers[source].append((position, reader))
    peers: list[tuple[int, ...]] = [()] * len(names)  # nodes of the same group
    mates: list[tuple[int, ...]] = [()] * len(names)  # nodes of the same unit
    for group in groups:
        _mark_together(peers, [index[name] for unit in group for name in unit])
        for unit in group:
            _mark_together(mates, [index[name] for name in unit])
    while True:
        colours = _refine(colours, reads, readers, peers, mates)
        classes: dict[int, list[int]] = {}
        for i, colour in enumerate(colours):
            classes.setdefault(colour, []).append(i)
        tied = [members for _, members in sorted(classes.items()) if len(members) > 1]
        if not tied:
            return {name: colours[i] for i, name in enumerate(names)}
        chosen = tied[0][0]
        colours = _ranked([(colour, 0 if i == chosen else 1) for i, colour in enumerate(colours)])


def _mark_together(table: list[tuple[int, ...]], members: Sequence[int]) -> None:
    if len(members) > 1:
        for member in members:
            table[member] = tuple(members)


def _refine(
    colours: list[int],
    reads: list[list[int]],
    readers: list[list[tuple[int, int]]],
    peers: list[tuple[int, ...]],
    mates: list[tuple[int, ...]],
) -> list[int]:
    count = len(set(colours))
    while count < len(colours):
        finer = _ranked(
            [
                (
                    colours[i],
                    tuple([colours[r] for r in reads[i]]),
                    tuple(sorted([(position, colours[r]) for position, r in readers[i]])),
                    tuple(sorted([colours[p] for p in peers[i]])),
                    tuple(sorted([colours[m] for m in mates[i]])),
                )
                for i in range(len(colours))
            ]
        )
        finer_count = len(set(finer))
        if finer_count == count:
            return finer
        colours, count = finer, finer_count
    return colours


def _ranked(values: Sequence[object]) -> list[int]:
    position = {value: i for i, value in enumerate(sorted(set(values)))}  # type: ignore[type-var]
    return [position[value] for value in values]
