"""Backtracking over substitutions: part by part, cheapest graph first, dearer ones within a threshold kept.

The search is that of TASO (Jia et al., SOSP 2019, section 5): a queue of graphs ordered by cost; each substitution of
the first gives another; one that costs less than alpha times the best so far is looked at later, so that a step that
costs may lead to one that pays (enlarge a kernel, then merge). A graph's cost is the sum of its units' latencies.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from iosfarm.ir.graph import Graph, GraphInput
from iosfarm.ir.key import StageFactory
from iosfarm.ir.simplify import simplify
from iosfarm.ir.stage import Stage
from iosfarm.search.parts import Part, cut
from iosfarm.search.substitutions import convolutions, moving
from iosfarm.search.substitutions.rewriting import Array, Draft, Rewrite

Costs = Callable[[Mapping[str, Stage]], Mapping[str, float]]
"""Seconds of stages of one unit, by key; infinite for one that cannot run."""

RULES: tuple[Callable[[Graph], Iterator[Rewrite]], ...] = (
    convolutions.merge,
    convolutions.enlarge,
    convolutions.sum_inside,
    moving.join_slices,
    moving.slice_of_slice,
    moving.slice_of_concat,
    moving.concat_of_concat,
    moving.concat_first,
    moving.concat_last,
)

ALPHA = 1.05
"""TASO's own."""
STEPS = 100
"""Graphs looked at in each part."""
LEAST_GAIN = 0.01
"""Of a part's cost: less could be noise, and the part stays as it was."""


@dataclass(frozen=True)
class Substituted:
    """The same function of the same inputs. before, after: sums of the units' latencies. rules: how often each was
    applied. looked_at: graphs whose cost was found.
    """

    graph: Graph
    weights: dict[str, Array]
    before: float
    after: float
    rules: Mapping[str, int]
    looked_at: int


def substitute(
    graph: Graph,
    weights: Mapping[str, Array],
    costs: Costs,
    *,
    layout: str,
    alpha: float = ALPHA,
    steps: int = STEPS,
    stop: Callable[[], bool] = lambda: False,
) -> Substituted:
    """The cheapest graph that substitutions find, and its weights. stop: ends it with the best so far.

    Inputs and outputs keep their names; operators that are units by themselves are what is changed.

    Raises:
        KeyError: a weight is missing.
    """
    simple, values = simplify(graph, weights)
    graph = Draft(simple).graph()  # without what nobody reads
    known: dict[str, float] = {}
    results = []
    for part in cut(graph):
        search = _PartSearch(_subgraph(graph, part), layout, costs, known, alpha, steps)
        search.run(stop)
        results.append(search)
    for search in results:
        for rewrite in search.path:
            rewrite.transform(values)
    operators = [operator for search in results for operator in search.best.operators]
    units = [unit for search in results for unit in search.best.units]
    found = Graph(graph.name, graph.inputs, operators, graph.outputs, units=units, batch=graph.batch, dtype=graph.dtype)
    left = {f"{operator.name}.{name}" for operator in operators for name in found.parameters(operator)}
    return Substituted(
        found,
        {name: values[name] for name in sorted(left)},
        sum(search.before for search in results),
        sum(search.after for search in results),
        Counter(rewrite.rule for search in results for rewrite in search.path),
        sum(len(search.seen) for search in results),
    )


@dataclass
class _PartSearch:
    """One part's search. best, path: the cheapest graph, and the substitutions that lead to it."""

    best: Graph
    layout: str
    costs: Costs
    known: dict[str, float]
    alpha: float
    steps: int
    path: tuple[Rewrite, ...] = ()
    before: float = math.inf
    after: float = math.inf
    seen: set[str] = field(default_factory=set)

    def run(self, stop: Callable[[], bool]) -> None:
        first = self.best
        self.seen.add(first.content_hash)
        if not any(True for rule in RULES for _ in rule(first)):
            (self.before,) = self._cost([first])
            self.after = self.before
            return
        (self.before,) = self._cost([first])
        self.after = self.before
        queue: list[tuple[float, int, Graph, tuple[Rewrite, ...]]] = [(self.before, 0, first, ())]
        lowest = self.before
        steps = 0
        while queue and steps < self.steps and not stop():
            cost, _, graph, path = heapq.heappop(queue)
            if cost > self.alpha * lowest:
                break  # the cheapest that is left
            steps += 1
            fresh = []
            for rewrite in (r for rule in RULES for r in rule(graph)):
                if rewrite.graph.content_hash not in self.seen:
                    self.seen.add(rewrite.graph.content_hash)
                    fresh.append(rewrite)
            for rewrite, found in zip(fresh, self._cost([r.graph for r in fresh]), strict=True):
                lowest = min(lowest, found)
                if found < self.after and found <= self.before * (1 - LEAST_GAIN):
                    self.best, self.after, self.path = rewrite.graph, found, (*path, rewrite)
                if found <= self.alpha * lowest:
                    heapq.heappush(queue, (found, len(self.seen) + len(queue), rewrite.graph, (*path, rewrite)))

    def _cost(self, graphs: Sequence[Graph]) -> list[float]:
        """Seconds of each graph; what is not known is asked for at once."""
        keys = []
        asked: dict[str, Stage] = {}
        for graph in graphs:
            factory = StageFactory(graph, self.layout)
            placed = [factory.make([[unit]]) for unit in range(len(graph.units))]
            keys.append([item.key for item in placed])
            asked |= {item.key: item.stage for item in placed if item.key not in self.known}
        if asked:
            self.known.update(self.costs(asked))
        return [sum(self.known[key] for key in each) for each in keys]


def _subgraph(graph: Graph, part: Part) -> Graph:
    """A part as a graph of its own: what it reads from outside are inputs, what is read outside are outputs."""
    units = [graph.units[unit] for unit in part.units]
    inside = {name for unit in units for name in unit.operators}
    operators = [operator for operator in graph.operators if operator.name in inside]
    read = dict.fromkeys(name for operator in operators for name in operator.inputs if name not in inside)
    wanted = set(graph.outputs)
    wanted |= {name for operator in graph.operators if operator.name not in inside for name in operator.inputs}
    outputs = [operator.name for operator in operators if operator.name in wanted]
    inputs = [GraphInput(name, graph.shape(name)[1:]) for name in read]
    return Graph(graph.name, inputs, operators, outputs, units=units, batch=graph.batch, dtype=graph.dtype)
