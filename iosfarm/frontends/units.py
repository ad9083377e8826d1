"""Units: which operators of an imported graph always run together. One pass, one named rule after the other.

A rule looks at an operator and names the one before it with which it goes. Two go together only where the second is
the only reader of the first, and the first is no output. A convolution stays a unit of its own where nothing has to
go with it, because only such units can be merged.

- *views*: a reshape, transpose, slice or constant runs with what reads it, or with what it reads where several do.
- *epilogue*: an activation, a scale or a shift by weights, or a clamp runs with what it is applied to.
- *preactivation*: a norm or an activation runs with the convolution or linear layer that reads it (DenseNet,
  pre-activation ResNet, NasNet).
- *separable*: a depthwise convolution runs with the pointwise one after it, and with the activation, and the sum,
  before it: add → ReLU → depthwise → pointwise (Xception, RandWire, NasNet, MobileNet).
- *gate*: what turns a pooled pixel for each channel into weights of the channels: pool → conv → conv → sigmoid
  (squeeze and excitation).
"""

from __future__ import annotations

from collections.abc import Callable

from iosfarm.ir.graph import Graph, Operator, Unit
from iosfarm.ir.operators import ACTIVATIONS, Shape

_VIEWS = frozenset({"reshape", "transpose", "flatten", "slice", "constant"})
_EPILOGUES = frozenset({*ACTIVATIONS, "affine", "scale", "shift", "clamp", "unary", "prelu", "power"})
_NORMS = frozenset({"batch_norm", "layer_norm", "group_norm"})
_PRODUCTS = frozenset({"conv2d", "linear", "conv_transpose2d"})
_POOLED = frozenset({"global_avg_pool", "global_max_pool"})

MAX_OPERATORS = 8
"""Of a unit: larger ones would leave nothing to schedule."""


def form_units(graph: Graph) -> Graph:
    """The same graph, its operators joined to units by the rules above."""
    joined = _Joined(graph)
    for rule in RULES:
        for operator in graph.operators:
            before = rule(joined, operator)
            if before is not None:
                joined.join(before, operator)
    return Graph(
        graph.name, graph.inputs, graph.operators, graph.outputs, units=joined.units(), batch=graph.batch,
        dtype=graph.dtype,
    )  # fmt: skip


class _Joined:
    """Operators of a graph, joined so far."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: dict[str, list[str]] = {}
        for operator in graph.operators:
            for name in dict.fromkeys(operator.inputs):
                self.readers.setdefault(name, []).append(operator.name)
        self._place = {operator.name: i for i, operator in enumerate(graph.operators)}
        self._members = {operator.name: [operator.name] for operator in graph.operators}

    def only_source(self, operator: Operator) -> Operator | None:
        """What the operator reads first, if nothing else reads that and it is made by an operator."""
        return self.private(operator.inputs[0])

    def private(self, name: str) -> Operator | None:
        """The operator of that name, if one other reads it and no output is it."""
        if name not in self._members or name in self.graph.outputs or len(self.readers[name]) != 1:
            return None
        return self.graph.operator(name)

    def unit(self, operator: Operator) -> list[str]:
        """Names of the operators that it has been joined with so far, itself included."""
        return self._members[operator.name]

    def shape(self, name: str) -> Shape:
        """Of a tensor."""
        return self.graph.shape(name)

    def join(self, before: Operator, after: Operator) -> None:
        """Put two into one unit. Nothing but `after` reads `before`, so units stay acyclic where the first of them ends
        in `before`.
        """
        first, second = self._members[before.name], self._members[after.name]
        if first is second or first[-1] != before.name or len(first) + len(second) > MAX_OPERATORS:
            return
        together = sorted([*first, *second], key=self._place.__getitem__)
        if together[-1] != second[-1]:
            return
        for name in together:
            self._members[name] = together

    def units(self) -> list[Unit]:
        """What has come of it."""
        distinct = {id(members): members for members in self._members.values()}
        return [Unit(members[-1], tuple(members)) for members in distinct.values()]


def _views(joined: _Joined, operator: Operator) -> Operator | None:
    for name in operator.inputs:
        source = joined.private(name)
        if source is not None and source.kind in _VIEWS:
            return source
    return None


def _views_left(joined: _Joined, operator: Operator) -> Operator | None:
    alone = all(joined.graph.operator(name).kind in _VIEWS for name in joined.unit(operator))
    return joined.only_source(operator) if alone else None


def _epilogue(joined: _Joined, operator: Operator) -> Operator | None:
    return joined.only_source(operator) if operator.kind in _EPILOGUES else None


def _preactivation(joined: _Joined, operator: Operator) -> Operator | None:
    source = joined.only_source(operator)
    if operator.kind in _PRODUCTS and source is not None and source.kind in (*_NORMS, *ACTIVATIONS):
        return source
    return None


def _separable(joined: _Joined, operator: Operator) -> Operator | None:
    source = joined.only_source(operator)
    if source is None or operator.kind != "conv2d":
        return None
    if _pointwise(operator) and _depthwise(joined, source):
        return source
    if _depthwise(joined, operator) and source.kind in (*ACTIVATIONS, "add"):
        return source
    return None


def _gate(joined: _Joined, operator: Operator) -> Operator | None:
    source = joined.only_source(operator)
    if source is None or joined.shape(operator.name)[2:] not in ((1, 1), ()):
        return None
    started = any(joined.graph.operator(name).kind in _POOLED for name in joined.unit(source))
    return source if started and operator.kind in (*_PRODUCTS, *ACTIVATIONS) else None


def _pointwise(operator: Operator) -> bool:
    return operator.kind == "conv2d" and operator.attributes["kernel"] == (1, 1) and operator.attributes["groups"] == 1


def _depthwise(joined: _Joined, operator: Operator) -> bool:
    if operator.kind != "conv2d":
        return False
    channels = joined.shape(operator.inputs[0])[1]
    return operator.attributes["groups"] == channels and channels > 1


Rule = Callable[[_Joined, Operator], Operator | None]
RULES: tuple[Rule, ...] = (_views, _views_left, _epilogue, _preactivation, _separable, _gate)
