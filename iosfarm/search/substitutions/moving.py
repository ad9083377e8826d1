"""Substitutions that move data less: concats and slices cancel, and move across what works on each channel alone."""

from __future__ import annotations

from collections.abc import Iterator

from iosfarm.ir.graph import Graph, Operator
from iosfarm.ir.operators import ACTIVATIONS
from iosfarm.search.substitutions.rewriting import Draft, Rewrite, Transform, unchanged

CHANNELWISE = frozenset(
    {*ACTIVATIONS, "max_pool", "avg_pool", "global_avg_pool", "global_max_pool", "adaptive_avg_pool",
     "adaptive_max_pool", "resize", "pad"}
)  # fmt: skip
"""Operators of one input, without weights, that compute each channel from that channel alone."""


def join_slices(graph: Graph) -> Iterator[Rewrite]:
    """A concat that reads neighbouring slices of a tensor reads them as one, and the tensor where that is all of it."""
    for concat in _concats(graph):
        for position in range(len(concat.inputs) - 1):
            left, right = (graph_slice(graph, name) for name in concat.inputs[position : position + 2])
            if left is None or right is None or left.inputs != right.inputs:
                continue
            if left.attributes["stop"] != right.attributes["start"]:
                continue
            draft = Draft(graph)
            source = left.inputs[0]
            start, stop = int(str(left.attributes["start"])), int(str(right.attributes["stop"]))
            whole = (start, stop) == (0, graph.shape(source)[1])
            name = source if whole else draft.fresh(f"{left.name}+{right.name}")
            if not whole:
                draft.put(name, "slice", (source,), {"start": start, "stop": stop})
            inputs = (*concat.inputs[:position], name, *concat.inputs[position + 2 :])
            transform: Transform = unchanged
            if len(inputs) > 1 or not draft.stand_in(concat.name, name):
                renamed = draft.take_over(concat.name, name) if len(inputs) == 1 else None
                transform = renamed or unchanged
                if renamed is None:
                    draft.put(concat.name, "concat", inputs, {})
            yield Rewrite("join slices", draft.graph(), transform)


def slice_of_slice(graph: Graph) -> Iterator[Rewrite]:
    """A slice of a slice is a slice."""
    for operator in graph.operators:
        outer = graph_slice(graph, operator.name)
        inner = graph_slice(graph, operator.inputs[0])
        if outer is None or inner is None:
            continue
        draft = Draft(graph)
        offset = int(str(inner.attributes["start"]))
        ends = {name: offset + int(str(outer.attributes[name])) for name in ("start", "stop")}
        draft.put(outer.name, "slice", inner.inputs, ends)
        yield Rewrite("slice of slice", draft.graph(), unchanged)


def slice_of_concat(graph: Graph) -> Iterator[Rewrite]:
    """A slice of a concat that is within one of the joined tensors is cut from that one, or is that one."""
    for operator in graph.operators:
        cut = graph_slice(graph, operator.name)
        concat = _concat(graph, operator.inputs[0])
        if cut is None or concat is None:
            continue
        start, stop = int(str(cut.attributes["start"])), int(str(cut.attributes["stop"]))
        before = 0
        for piece in concat.inputs:
            after = before + graph.shape(piece)[1]
            if before <= start and stop <= after:
                draft = Draft(graph)
                if (before, after) != (start, stop) or not draft.stand_in(cut.name, piece):
                    draft.put(cut.name, "slice", (piece,), {"start": start - before, "stop": stop - before})
                yield Rewrite("slice of concat", draft.graph(), unchanged)
            before = after


def concat_of_concat(graph: Graph) -> Iterator[Rewrite]:
    """A concat that only a concat reads becomes part of it."""
    draft = Draft(graph)
    for outer in _concats(graph):
        for position, name in enumerate(outer.inputs):
            inner = _concat(graph, name)
            if inner is None or not draft.private(name, outer.name):
                continue
            changed = Draft(graph)
            inputs = (*outer.inputs[:position], *inner.inputs, *outer.inputs[position + 1 :])
            changed.put(outer.name, "concat", inputs, {})
            yield Rewrite("concat of concat", changed.graph(), unchanged)


def concat_first(graph: Graph) -> Iterator[Rewrite]:
    """f(x) ‖ f(y) = f(x ‖ y) for an f that works on each channel alone."""
    draft = Draft(graph)
    for concat in _concats(graph):
        makers = [draft.operators.get(name) for name in concat.inputs]
        first = makers[0]
        if first is None or first.kind not in CHANNELWISE or len(makers) < 2:
            continue
        if any(
            m is None
            or (m.kind, m.attributes) != (first.kind, first.attributes)
            or not (draft.free(m.name) and draft.private(m.name, concat.name))
            for m in makers
        ):
            continue
        sources = tuple(m.inputs[0] for m in makers if m is not None)
        if len({graph.shape(source)[2:] for source in sources}) > 1 or len(graph.shape(sources[0])) != 4:
            continue
        changed = Draft(graph)
        joined = changed.fresh(f"{concat.name}/inputs")
        changed.put(joined, "concat", sources, {})
        changed.put(concat.name, first.kind, (joined,), first.attributes)
        yield Rewrite("concat first", changed.graph(), unchanged)


def concat_last(graph: Graph) -> Iterator[Rewrite]:
    """f(x ‖ y) = f(x) ‖ f(y): the other way round."""
    draft = Draft(graph)
    for operator in graph.operators:
        if operator.kind not in CHANNELWISE or not draft.free(operator.name):
            continue
        concat = _concat(graph, operator.inputs[0])
        if concat is None or not draft.private(concat.name, operator.name):
            continue
        changed = Draft(graph)
        names = []
        for number, source in enumerate(concat.inputs):
            names.append(changed.fresh(f"{operator.name}/{number}"))
            changed.put(names[-1], operator.kind, (source,), operator.attributes)
        changed.put(operator.name, "concat", tuple(names), {})
        yield Rewrite("concat last", changed.graph(), unchanged)


def graph_slice(graph: Graph, name: str) -> Operator | None:
    """The operator of a tensor if it is a slice of channels, each of them, that is a unit by itself."""
    operator = _free(graph, name, "slice")
    if operator is None or operator.attributes.get("axis", 1) != 1 or operator.attributes.get("step", 1) != 1:
        return None
    return operator


def _concats(graph: Graph) -> Iterator[Operator]:
    for operator in graph.operators:
        found = _concat(graph, operator.name)
        if found is not None:
            yield found


def _concat(graph: Graph, name: str) -> Operator | None:
    operator = _free(graph, name, "concat")
    return operator if operator is not None and operator.attributes.get("axis", 1) == 1 else None


def _free(graph: Graph, name: str, kind: str) -> Operator | None:
    if name not in graph.unit_of or len(graph.units[graph.unit_of[name]].operators) > 1:
        return None
    operator = graph.operator(name)
    return operator if operator.kind == kind else None
