"""The search space straight from its definitions, with Python's sets: slow, and made of nothing that it is to test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from iosfarm.ir.graph import Graph

Set = frozenset[int]
Ending = tuple[str, frozenset[Set]]
"""Strategy and groups."""


class Brute:
    """Endings of states of a DAG, given as bit sets of predecessors. None is no limit."""

    def __init__(self, predecessors: Sequence[int], endings: str, r: int | None, s: int | None) -> None:
        n = len(predecessors)
        self.full: Set = frozenset(range(n))
        self.edges = {(p, u) for u in range(n) for p in range(u) if predecessors[u] >> p & 1}
        self.kind = endings
        self.r, self.s = r or n, s or n

    def successors(self, unit: int, state: Set) -> Set:
        return frozenset(v for v in state if (unit, v) in self.edges)

    def closure(self, unit: int, state: Set) -> Set:
        return frozenset({unit}).union(*(self.closure(v, state) for v in self.successors(unit, state)))

    def components(self, units: Set) -> frozenset[Set]:
        left, found = set(units), set()
        while left:
            component = {left.pop()}
            while more := {v for v in left for u in component if (u, v) in self.edges or (v, u) in self.edges}:
                component |= more
                left -= more
            found.add(frozenset(component))
        return frozenset(found)

    def endings(self, state: Set) -> set[frozenset[Set]]:
        """The groups of every concurrent ending of a state."""
        found = set()
        for chosen in subsets(state):
            if self.kind == "paper":
                closures = [self.closure(root, state) for root in chosen]
                if all(not a & b for a, b in combinations(closures, 2)):
                    found.add(frozenset(closures))
            elif all(self.successors(u, state) <= chosen for u in chosen):
                found.add(self.components(chosen))
        return {groups for groups in found if len(groups) <= self.s and all(len(g) <= self.r for g in groups)}

    def merges(self, state: Set, alike: Callable[[Set], bool]) -> set[Set]:
        """Subsets of the state's sinks that can be merged."""
        sinks = frozenset(u for u in state if not self.successors(u, state))
        return {chosen for chosen in subsets(sinks) if len(chosen) > 1 and alike(chosen)}

    def stages(self, state: Set, strategies: Sequence[str], alike: Callable[[Set], bool]) -> list[Ending]:
        """Every stage that can run last in a state."""
        if "concurrent" in strategies:
            found: list[Ending] = [("concurrent", groups) for groups in self.endings(state)]
        else:
            sinks = [u for u in state if not self.successors(u, state)]
            found = [("concurrent", frozenset({frozenset({u})})) for u in sinks]
        if "merge" in strategies:
            found += [("merge", frozenset(frozenset({u}) for u in m)) for m in self.merges(state, alike)]
        return found

    def schedules(self, state: Set, stages_of: Callable[[Set], list[Ending]]) -> Iterator[list[Ending]]:
        """Every schedule of a state, one after the other."""
        if not state:
            yield []
        for stage in stages_of(state) if state else ():
            for rest in self.schedules(state - frozenset().union(*stage[1]), stages_of):
                yield [*rest, stage]


def subsets(units: Set) -> Iterator[Set]:
    """All but the empty one."""
    for size in range(1, len(units) + 1):
        yield from map(frozenset, combinations(sorted(units), size))


def can_merge(graph: Graph, units: Set) -> bool:
    """Whether single-operator convolutions of one input, stride, output size, dilation and activation, groups = 1, fit
    into one kernel: searched for among all kernels and paddings that could do."""
    operators = []
    for unit in units:
        names = graph.units[unit].operators
        operators.append(graph.operator(names[0]))
        if len(names) != 1 or operators[-1].kind != "conv2d" or operators[-1].attributes["groups"] != 1:
            return False
    sizes = {graph.shape(o.name)[2:] for o in operators}
    traits = {(o.inputs, *(o.attributes[a] for a in ("stride", "dilation", "activation"))) for o in operators}
    if len(sizes) != 1 or len(traits) != 1:
        return False
    size = graph.shape(operators[0].inputs[0])[2:]
    return all(
        _fits([_axis(o.attributes, axis) for o in operators], size[axis], next(iter(sizes))[axis]) for axis in (0, 1)
    )


def _axis(attributes: object, axis: int) -> tuple[int, int, int, int]:
    assert isinstance(attributes, dict)
    kernel, padding, stride, dilation = (attributes[name][axis] for name in ("kernel", "padding", "stride", "dilation"))
    return kernel, padding, stride, dilation


def _fits(convolutions: Sequence[tuple[int, int, int, int]], size: int, wanted: int) -> bool:
    _, _, stride, dilation = convolutions[0]
    for padding in range(9):
        for kernel in range(1, 13):
            taps = {j * dilation - padding for j in range(kernel)}
            reads_all = all({j * dilation - p for j in range(k)} <= taps for k, p, _, _ in convolutions)
            if reads_all and (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 == wanted:
                return True
    return False
