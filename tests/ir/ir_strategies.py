"""Random networks for property tests."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph, GraphInput, Operator, Unit
from iosfarm.ir.stage import Stage


@st.composite
def graphs(draw: st.DrawFn, most: int = 10, units: bool = True) -> Graph:
    """A DAG of up to `most` units on 4 x 4 images of 4 channels; few kinds, so that there is symmetry to break."""
    b = GraphBuilder("random")
    values = [b.input((4, 4, 4)) for _ in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from(["conv1", "conv3", "relu", "add", "pool", *(["chain", "pair"] if units else [])]))
        x = draw(st.sampled_from(values))
        if kind == "conv1":
            y = b.conv2d(x, 4, 1)
        elif kind == "conv3":
            y = b.conv2d(x, 4, 3, padding=1, activation="relu")
        elif kind == "relu":
            y = b.relu(x)
        elif kind == "add":
            y = b.add(x, draw(st.sampled_from(values)))
        elif kind == "pool":
            y = b.max_pool(x, 3, padding=1)
        elif kind == "chain":
            with b.unit():
                y = b.conv2d(b.relu(x), 4, 1)
        else:
            other = draw(st.sampled_from(values))
            with b.unit():
                y = b.add(b.relu(x), b.relu(other))
        values.append(y)
    return b.build(*values[-draw(st.integers(1, 2)) :])


@st.composite
def placements(draw: st.DrawFn, most: int = 10) -> tuple[Graph, list[list[int]]]:
    """A graph, and the groups of a concurrent stage of it: the components of some set of its units."""
    graph = draw(graphs(most))
    chosen = draw(st.lists(st.integers(0, len(graph.units) - 1), min_size=1, unique=True))
    return graph, components(graph, closed(graph, chosen))


def closed(graph: Graph, units: Sequence[int]) -> set[int]:
    """The units and everything on a path between two of them: what can run without something from outside."""
    after: dict[int, set[int]] = {u: {u} for u in range(len(graph.units))}
    for unit, before in enumerate(graph.unit_predecessors):
        for earlier in before:
            for reached in after.values():
                if earlier in reached:
                    reached.add(unit)
    return {m for m in after if any(m in after[u] for u in units) and any(v in after[m] for v in units)}


def components(graph: Graph, units: set[int]) -> list[list[int]]:
    """Connected components, each in topological order."""
    group = {unit: {unit} for unit in units}
    for unit in sorted(units):
        for before in graph.unit_predecessors[unit]:
            if before in units and group[before] is not group[unit]:
                group[before] |= group[unit]
                for moved in group[unit]:
                    group[moved] = group[before]
    return [list(members) for members in sorted({tuple(sorted(members)) for members in group.values()})]


def renamed(graph: Graph, seed: int) -> tuple[Graph, Mapping[str, str]]:
    """The same network with other names, its operators and units in another order; and the unit names, old to new."""
    rng = random.Random(seed)
    names = [*(i.name for i in graph.inputs), *(o.name for o in graph.operators)]
    new = dict(zip(names, rng.sample([f"t{i}" for i in range(len(names))], len(names)), strict=True))
    units = {unit.name: f"u{rng.random()}" for unit in graph.units}
    operators = [Operator(new[o.name], o.kind, tuple(new[i] for i in o.inputs), o.attributes) for o in graph.operators]
    partition = [Unit(units[u.name], tuple(new[o] for o in u.operators)) for u in graph.units]
    rng.shuffle(operators)
    rng.shuffle(partition)
    inputs = [GraphInput(new[i.name], i.shape) for i in graph.inputs]
    outputs = [new[o] for o in graph.outputs]
    other = Graph("other", inputs, operators, outputs, units=partition, batch=graph.batch, dtype=graph.dtype)
    return other, units


def moved(graph: Graph, other: Graph, groups: Sequence[Sequence[int]], units: Mapping[str, str]) -> list[list[int]]:
    """Groups of `graph` as groups of its renamed twin."""
    index = {unit.name: i for i, unit in enumerate(other.units)}
    return [[index[units[graph.units[u].name]] for u in group] for group in groups]


def graph_of(stage: Stage) -> tuple[Graph, list[list[int]]]:
    """A network that consists of a stage, and the groups that make it the stage again."""
    inputs = [GraphInput(f"in{k}", shape[1:]) for k, shape in enumerate(stage.inputs)]
    operators, units, groups = [], [], []
    number = 0
    for group in stage.groups:
        groups.append([f"op{unit.output}" for unit in group])
        for unit in group:
            for operator in unit.operators:
                reads = tuple(f"op{r}" if r >= 0 else f"in{-1 - r}" for r in operator.references)
                operators.append(Operator(f"op{number}", operator.kind, reads, operator.attributes))
                number += 1
            names = tuple(f"op{unit.first + i}" for i in range(len(unit.operators)))
            units.append(Unit(f"op{unit.output}", names))
    outputs = [unit.name for unit in units]
    graph = Graph("stage", inputs, operators, outputs, units=units, batch=stage.inputs[0][0], dtype=stage.dtype)
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    return graph, [[index[name] for name in group] for group in groups]
