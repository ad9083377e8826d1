"""`merged_graph`: what a schedule merges, as a graph with real merged convolutions that any runtime can execute.

A merged convolution is followed by one `slice` for each convolution in it, which keeps that one's name. Where a concat
joins slices again in order, it reads the merged convolution itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch

from iosfarm.ir.graph import Graph, Operator
from iosfarm.ir.merge import merged_convolution
from iosfarm.ir.schedule import Schedule, mergeable
from iosfarm.ir.stage_units import LAYOUTS
from iosfarm.kernels.cpu.program import merged_parameters
from iosfarm.kernels.runtime import Array, Weights


def merged_graph(graph: Graph, schedule: Schedule, weights: Weights) -> tuple[Graph, dict[str, Array]]:
    """The same function of the same inputs, and its weights. Inputs and outputs keep their names.

    Raises:
        UsageError: the schedule does not fit the graph. KeyError: a weight of a merged convolution is missing.
    """
    schedule.place(graph, LAYOUTS[0])  # validates; what is computed does not depend on the layout
    draft = _Draft(graph, weights)
    for names in _merged_groups(graph, schedule):
        draft.merge(draft.in_reading_order(names))
    draft.join()
    return draft.graph(), draft.weights


def _merged_groups(graph: Graph, schedule: Schedule) -> Iterator[list[str]]:
    """Names of the convolutions of each merged group."""
    index = {unit.name: number for number, unit in enumerate(graph.units)}
    for stage in schedule.stages:
        groups = [[index[name] for name in group] for group in stage.groups]
        if stage.strategy == "merge":
            groups = [[unit for group in groups for unit in group]]
        elif stage.strategy == "mixed":
            groups = [group for group in groups if mergeable(graph, group)]
        else:
            groups = []
        yield from ([graph.units[unit].operators[0] for unit in group] for group in groups)


def _joins_channels(operator: Operator) -> bool:
    return operator.kind == "concat" and operator.attributes.get("axis", 1) == 1


class _Draft:
    """Operators and weights under change. `_cuts`: the slices that have been made of merged convolutions."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self._source = graph
        self._operators = {operator.name: operator for operator in graph.operators}
        self._cuts: set[str] = set()
        self.weights = dict(weights)

    def in_reading_order(self, names: Sequence[str]) -> list[str]:
        """The order of the first concat that reads them, so that as many as can be need not be cut apart."""
        places: dict[str, tuple[int, int]] = {}
        for number, operator in enumerate(self._source.operators):
            if _joins_channels(operator):
                for position, name in enumerate(operator.inputs):
                    places.setdefault(name, (number, position))
        last = (len(self._operators), 0)
        return sorted(names, key=lambda name: places.get(name, last))

    def merge(self, names: Sequence[str]) -> None:
        """Replace convolutions by one and its slices."""
        parts = [self._operators[name] for name in names]
        attributes = [part.attributes for part in parts]
        height, width = self._source.shape(parts[0].inputs[0])[2:]
        found = merged_convolution(attributes, (height, width))
        assert found is not None  # placing the schedule has proved it
        bound = [
            {p: torch.from_numpy(np.ascontiguousarray(self.weights.pop(f"{name}.{p}"))) for p in parameters}
            for name, parameters in ((part.name, self._source.parameters(part)) for part in parts)
        ]
        weight, bias, _ = merged_parameters(attributes, bound, (height, width))
        merged = self._free("+".join(names))
        self.weights[f"{merged}.weight"] = weight.contiguous().numpy()
        if bias is not None:
            self.weights[f"{merged}.bias"] = bias.numpy()
        self._operators[merged] = Operator(
            merged,
            "conv2d",
            parts[0].inputs,
            {
                **attributes[0],
                "out_channels": weight.shape[0],
                "kernel": found.kernel,
                "padding": found.padding,
                "bias": bias is not None,
            },
        )
        stops = list(accumulate(self._source.shape(name)[1] for name in names))
        for name, start, stop in zip(names, [0, *stops], stops, strict=False):
            self._operators[name] = Operator(name, "slice", (merged,), {"start": start, "stop": stop})
        self._cuts.update(names)

    def join(self) -> None:
        """Concats read neighbouring slices as one, and slices that nothing reads any more are dropped."""
        for operator in [o for o in self._operators.values() if _joins_channels(o)]:
            inputs: list[str] = []
            for name in operator.inputs:
                if inputs and (joined := self._neighbours(inputs[-1], name)):
                    inputs[-1] = joined
                else:
                    inputs.append(name)
            whole = tuple(self._without_cut(name) for name in inputs)
            self._operators[operator.name] = replace(operator, inputs=whole)
        read = {name for operator in self._operators.values() for name in operator.inputs}
        for name in self._cuts - read - set(self._source.outputs):
            del self._operators[name]

    def graph(self) -> Graph:
        source = self._source
        operators = list(self._operators.values())
        return Graph(source.name, source.inputs, operators, source.outputs, batch=source.batch, dtype=source.dtype)

    def _neighbours(self, left: str, right: str) -> str | None:
        """The slice that covers two neighbouring ones, None where they are not."""
        if left not in self._cuts or right not in self._cuts:
            return None
        first, second = self._operators[left], self._operators[right]
        if first.inputs != second.inputs or first.attributes["stop"] != second.attributes["start"]:
            return None
        name = self._free(f"{left}+{right}")
        ends = {"start": first.attributes["start"], "stop": second.attributes["stop"]}
        self._operators[name] = Operator(name, "slice", first.inputs, ends)
        self._cuts.add(name)
        return name

    def _without_cut(self, name: str) -> str:
        """What a slice is cut from, where it is all of it."""
        if name not in self._cuts:
            return name
        operator = self._operators[name]
        source = self._operators[operator.inputs[0]]
        length = source.attributes["out_channels"]
        return source.name if (operator.attributes["start"], operator.attributes["stop"]) == (0, length) else name

    def _free(self, name: str) -> str:
        taken = {*self._operators, *(item.name for item in self._source.inputs)}
        while name in taken:
            name += "'"
        return name
