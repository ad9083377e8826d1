"""`Rewrite`: a graph with one substitution made, and what it does to the weights; `Draft`, on which rules work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.graph import Graph, Operator, Unit
from iosfarm.ir.operators import Attribute

Array = NDArray[np.generic]
Weights = dict[str, Array]
Transform = Callable[[Weights], None]
"""Changes weights in place, from those of the graph before to those of the graph after."""


@dataclass(frozen=True)
class Rewrite:
    """One substitution. rule: its name."""

    rule: str
    graph: Graph
    transform: Transform


@dataclass
class Draft:
    """A graph under change. A tensor that somebody outside may read, an output, keeps its name."""

    source: Graph
    operators: dict[str, Operator] = field(init=False)
    readers: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.operators = {operator.name: operator for operator in self.source.operators}
        self.readers = {}
        for operator in self.source.operators:
            for name in operator.inputs:
                self.readers.setdefault(name, []).append(operator.name)

    def free(self, name: str) -> bool:
        """Whether an operator is a unit by itself, and so may be changed."""
        unit = self.source.unit_of.get(name)
        return name in self.operators and (unit is None or len(self.source.units[unit].operators) == 1)

    def private(self, name: str, reader: str) -> bool:
        """Whether `reader` alone reads it, once, and it is no output."""
        return self.readers.get(name) == [reader] and name not in self.source.outputs

    def kind(self, name: str, kind: str) -> Operator | None:
        """The operator of a tensor if it is of this kind and may be changed."""
        operator = self.operators.get(name)
        return operator if operator is not None and operator.kind == kind and self.free(name) else None

    def fresh(self, name: str) -> str:
        """A name that is not taken."""
        taken = {*self.operators, *(item.name for item in self.source.inputs)}
        while name in taken:
            name += "'"
        return name

    def put(self, name: str, kind: str, inputs: tuple[str, ...], attributes: Mapping[str, Attribute]) -> None:
        """Add an operator, or put it in the place of the one of that name."""
        self.operators[name] = Operator(name, kind, inputs, dict(attributes))

    def stand_in(self, old: str, new: str) -> bool:
        """Let everything that reads `old` read `new`; False, and nothing done, where `old` is an output."""
        if old in self.source.outputs:
            return False
        del self.operators[old]
        for name, operator in self.operators.items():
            if old in operator.inputs:
                inputs = tuple(new if i == old else i for i in operator.inputs)
                self.operators[name] = replace(operator, inputs=inputs)
        return True

    def take_over(self, new: str, old: str) -> Transform | None:
        """Let the operator `old` have the name `new` of one that only repeats it; None where `old` has to stay."""
        operator = self.operators.get(old)
        if operator is None or old in self.source.outputs or not self.free(old):
            return None
        del self.operators[old]
        self.operators[new] = replace(operator, name=new)
        for name, reader in self.operators.items():
            if old in reader.inputs:
                self.operators[name] = replace(reader, inputs=tuple(new if i == old else i for i in reader.inputs))
        parameters = list(self.source.parameters(operator))

        def transform(weights: Weights) -> None:
            for parameter in parameters:
                weights[f"{new}.{parameter}"] = weights.pop(f"{old}.{parameter}")

        return transform

    def graph(self) -> Graph:
        """The graph as it is now, without what nobody reads. Units of several operators stay as they were."""
        source = self.source
        needed: set[str] = set()
        stack = list(source.outputs)
        while stack:
            name = stack.pop()
            if name in self.operators and name not in needed:
                needed.add(name)
                stack += self.operators[name].inputs
        units = [unit for unit in source.units if len(unit.operators) > 1 and unit.operators[-1] in needed]
        inside = {name for unit in units for name in unit.operators}
        single = [Unit(name, (name,)) for name in self.operators if name in needed and name not in inside]
        kept = [operator for name, operator in self.operators.items() if name in needed or name in inside]
        return Graph(
            source.name,
            source.inputs,
            kept,
            source.outputs,
            units=[*units, *single],
            batch=source.batch,
            dtype=source.dtype,
        )


def unchanged(_: Weights) -> None:
    """The weights stay as they are."""
