"""Which units of one graph are which of another, where both are the same network under other names.

The same module is named differently by `torch.export`, by `torch.compile` and by a zoo; a schedule that was found for
one is as good for the others. Operators get colours that say what they are, what they read and who reads them; the
colours are refined until they tell all operators apart, or leave such as can be exchanged. What is found is checked, so
that at worst two equal graphs are not recognised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from iosfarm.ir.graph import Graph, Operator


def corresponding_units(source: Graph, target: Graph) -> dict[str, str] | None:
    """For the name of each unit of `source` that of its counterpart in `target`; None where they are not the same."""
    if _shape(source) != _shape(target):
        return None
    words: dict[Hashable, int] = {}
    first, second = _Colouring(source, words), _Colouring(target, words)
    while True:
        first.refine()
        second.refine()
        counts = Counter(first.colours.values())
        if counts != Counter(second.colours.values()):
            return None
        tied = [name for name, colour in first.colours.items() if counts[colour] > 1]
        if not tied:
            break
        # Those that are left can usually be exchanged: any choice will do, the same in both.
        colour = first.colours[tied[0]]
        twin = next(name for name, other in second.colours.items() if other == colour)
        first.single_out(tied[0])
        second.single_out(twin)
    back = {colour: name for name, colour in second.colours.items()}
    names = {name: back[colour] for name, colour in first.colours.items()}
    return _units(source, target, names)


def _shape(graph: Graph) -> object:
    """What is cheap to compare."""
    return (
        graph.batch,
        graph.dtype,
        Counter(item.shape for item in graph.inputs),
        Counter((operator.kind, graph.shape(operator.name)) for operator in graph.operators),
        len(graph.units),
        len(graph.outputs),
    )


class _Colouring:
    """A number for each tensor of a graph; `words` gives equal numbers to equal descriptions, in all graphs."""

    def __init__(self, graph: Graph, words: dict[Hashable, int]) -> None:
        self._graph = graph
        self._words = words
        self._readers: dict[str, list[tuple[str, int]]] = {item.name: [] for item in graph.inputs}
        self._readers |= {operator.name: [] for operator in graph.operators}
        for operator in graph.operators:
            for position, name in enumerate(operator.inputs):
                self._readers[name].append((operator.name, position))
        outputs = Counter(graph.outputs)
        place = {name: (len(u.operators), i) for u in graph.units for i, name in enumerate(u.operators)}
        self.colours = {i.name: self._number(("input", i.shape, outputs[i.name])) for i in graph.inputs}
        for o in graph.operators:
            self.colours[o.name] = self._number((_what(o), graph.shape(o.name), place[o.name], outputs[o.name]))

    def refine(self) -> None:
        """Tell apart what reads, or is read by, what can be told apart."""
        count = 0
        while count < (count := len(set(self.colours.values()))):
            # Once down and once up carries what is known of any operator to all that depend on it or it depends on.
            for operator in self._graph.operators:
                self._mix(operator.name, "reads", [self.colours[name] for name in operator.inputs])
            for name in reversed(list(self.colours)):
                read = [(self.colours[reader], position) for reader, position in self._readers[name]]
                self._mix(name, "read", sorted(read))

    def single_out(self, name: str) -> None:
        """Give one of several equal operators a colour of its own."""
        self._mix(name, "chosen", [])

    def _mix(self, name: str, how: str, others: Sequence[Hashable]) -> None:
        self.colours[name] = self._number((self.colours[name], how, tuple(others)))

    def _number(self, word: Hashable) -> int:
        return self._words.setdefault(word, len(self._words))


def _what(operator: Operator) -> Hashable:
    return (operator.kind, tuple(sorted(operator.attributes.items())))


def _units(source: Graph, target: Graph, names: dict[str, str]) -> dict[str, str] | None:
    """The units, if operators that correspond are the same and read and are in what corresponds."""
    for operator in source.operators:
        other = target.operator(names[operator.name])
        if _what(operator) != _what(other) or tuple(names[name] for name in operator.inputs) != other.inputs:
            return None
    units = {}
    for unit in source.units:
        other_unit = target.units[target.unit_of[names[unit.operators[0]]]]
        if tuple(names[name] for name in unit.operators) != other_unit.operators:
            return None
        units[unit.name] = other_unit.name
    if Counter(names[name] for name in source.outputs) != Counter(target.outputs):
        return None
    return units
