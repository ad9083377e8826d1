"""`simplify`: what inference does not need is removed, and what one kernel can do is made one operator.

Rules:

- *drop*: dropout is the identity at inference; so is an add, mul or concat of one tensor without an activation.
- *fold*: a batch norm after a convolution becomes part of the convolution's weights; so do a scale, a shift or an
  affine after a convolution, a linear layer or a batch norm, where it has one number for each channel, or one for all.
- *pad*: zeros around the input of a convolution, as many on either side, become the convolution's own padding.
- *fuse*: an activation after an operator that can have a fused one becomes that one.

Fold and fuse need the second operator to be the only reader of the first, and the first to have no activation yet and
to be no output of the graph. They work inside a unit, and across two where the second operator is a unit by
itself: a larger unit is what its author wants to run together, and is not taken apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph, Operator, Unit
from iosfarm.ir.operators import FUSED_ACTIVATIONS, Attribute, spec

Array = NDArray[np.generic]
Exact = NDArray[np.float64]


def simplify(graph: Graph, weights: Mapping[str, Array] | None = None) -> tuple[Graph, dict[str, Array]]:
    """The same function of the same inputs, with fewer operators, and its weights.

    weights: `operator.parameter` -> values; without them the graph is the same, and no weights come back. Folding is
    computed in float64 and cast to the dtype of the convolution's weight. A fused operator keeps the name and the unit
    of its first operator, and takes over where the second was an output of the graph.

    Raises:
        UsageError: a weight that has to be folded is missing.
    """
    draft = _Draft(graph, weights)
    before = len(draft.operators) + 1
    while len(draft.operators) < before:  # what one rule removes can let another one apply
        before = len(draft.operators)
        for rule in (_drop, _pad, _fold, _fold_channels, _fuse):
            for operator in graph.operators:
                if operator.name in draft.operators:
                    rule(draft, draft.operators[operator.name])
    return draft.graph(), draft.weights


class _Draft:
    """A graph that rules work on: operators by name, who reads them, units as lists."""

    def __init__(self, graph: Graph, weights: Mapping[str, Array] | None) -> None:
        self._source = graph
        self.weighted = weights is not None
        self.weights = dict(weights or {})
        self.operators = {operator.name: operator for operator in graph.operators}
        self.outputs = list(graph.outputs)
        self._units = {unit.name: list(unit.operators) for unit in graph.units}
        self._unit_of = {name: unit.name for unit in graph.units for name in unit.operators}
        self._readers: dict[str, list[str]] = {}
        for operator in graph.operators:
            for name in operator.inputs:
                self._readers.setdefault(name, []).append(operator.name)

    def unit(self, name: str) -> list[str]:
        """The operators of an operator's unit, in order."""
        return self._units[self._unit_of[name]]

    def absorber(self, second: Operator) -> Operator | None:
        """The operator that may take `second` in: see fold and fuse."""
        first = self.operators.get(second.inputs[0])
        if first is None or first.name in self.outputs or self._readers[first.name] != [second.name]:
            return None
        if first.attributes.get("activation") != "none":
            return None
        together = self._unit_of[first.name] == self._unit_of[second.name]
        return first if together or len(self.unit(second.name)) == 1 else None

    def private(self, operator: Operator) -> bool:
        """Whether one operator alone reads it, and it is no output."""
        return operator.name not in self.outputs and len(self._readers[operator.name]) == 1

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor; no rule changes one."""
        return self._source.shape(name)

    def absorb(self, first: Operator, second: Operator, attributes: Mapping[str, Attribute]) -> None:
        """Replace both by `first` with new attributes."""
        self.operators[first.name] = Operator(first.name, first.kind, first.inputs, {**first.attributes, **attributes})
        if self._unit_of[first.name] == self._unit_of[second.name]:
            # The unit's output is its last operator: `first` goes where `second` was. Nothing between reads it.
            unit = self.unit(first.name)
            unit.remove(first.name)
            unit.insert(unit.index(second.name), first.name)
        self.remove(second, first.name)

    def remove(self, operator: Operator, stand_in: str) -> None:
        """Take an operator out; what read it reads `stand_in`, one of its inputs."""
        del self.operators[operator.name]
        self.unit(operator.name).remove(operator.name)
        self.outputs = [stand_in if name == operator.name else name for name in self.outputs]
        readers = self._readers.pop(operator.name, [])
        for name in dict.fromkeys(readers):
            old = self.operators[name]
            inputs = tuple(stand_in if i == operator.name else i for i in old.inputs)
            self.operators[name] = Operator(old.name, old.kind, inputs, old.attributes)
        kept = [name for name in self._readers[stand_in] if name != operator.name]
        self._readers[stand_in] = kept + readers
        for parameter in self._source.parameters(self._source.operator(operator.name)):
            self.weights.pop(f"{operator.name}.{parameter}", None)

    def graph(self) -> Graph:
        source = self._source
        return Graph(
            source.name,
            source.inputs,
            list(self.operators.values()),
            self.outputs,
            units=[Unit(name, tuple(operators)) for name, operators in self._units.items() if operators],
            batch=source.batch,
            dtype=source.dtype,
        )


def _drop(draft: _Draft, operator: Operator) -> None:
    if operator.kind != "dropout":
        alone = operator.kind in ("add", "mul", "concat") and len(operator.inputs) == 1
        if not alone or operator.attributes.get("activation", "none") != "none":
            return
    source, unit = operator.inputs[0], draft.unit(operator.name)
    # A unit's output is its last operator: where the operator is that, its input has to be the last but one.
    if unit[-1] == operator.name and source in unit and unit[-2] != source:
        return
    draft.remove(operator, source)


def _fold(draft: _Draft, operator: Operator) -> None:
    if operator.kind != "batch_norm":
        return
    convolution = draft.absorber(operator)
    if convolution is None or convolution.kind != "conv2d":
        return
    if draft.weighted:
        draft.weights.update(_folded_weights(draft.weights, convolution, operator))
    draft.absorb(convolution, operator, {"bias": True, "activation": operator.attributes["activation"]})


def _fold_channels(draft: _Draft, operator: Operator) -> None:
    """y = s · x + t, where s and t have one number for each channel of x."""
    if operator.kind not in ("scale", "shift", "affine"):
        return
    first = draft.absorber(operator)
    if first is None or first.kind not in ("conv2d", "conv_transpose2d", "linear", "batch_norm"):
        return
    shape = draft.shape(first.name)
    channels = shape[-1] if first.kind == "linear" else shape[1]
    if operator.kind != "affine":
        sizes = operator.attributes["shape"]
        assert isinstance(sizes, tuple)
        full = (1,) * (len(shape) - len(sizes)) + sizes
        axis = len(shape) - 1 if first.kind == "linear" else 1
        if any(size != 1 for i, size in enumerate(full) if i != axis):
            return
    if draft.weighted:
        scale, shift = _line(draft.weights, operator, channels)
        draft.weights.update(_moved_weights(draft.weights, first, scale, shift))
    bias = {} if first.kind == "batch_norm" else {"bias": True}
    draft.absorb(first, operator, {**bias, "activation": operator.attributes["activation"]})


def _line(weights: Mapping[str, Array], operator: Operator, channels: int) -> tuple[Exact, Exact]:
    """s and t of an operator."""
    ones = np.ones(channels)
    if operator.kind == "affine":
        scale, offset = operator.attributes["scale"], operator.attributes["offset"]
        assert isinstance(scale, float)
        assert isinstance(offset, float)
        return scale * ones, offset * ones
    given = _given(weights, operator, "weight", f"folding {operator.name!r}").reshape(-1)
    return (given * ones, 0 * ones) if operator.kind == "scale" else (ones, given * ones)


def _moved_weights(weights: Mapping[str, Array], first: Operator, scale: Exact, shift: Exact) -> dict[str, Array]:
    """The weights with which an operator gives s · y + t instead of y."""
    where = f"folding into {first.name!r}"
    weight = _given(weights, first, "weight", where)
    has_bias = first.kind == "batch_norm" or bool(first.attributes["bias"])
    bias = _given(weights, first, "bias", where) if has_bias else np.zeros(1)
    if first.kind == "conv_transpose2d":
        groups = first.attributes["groups"]
        assert isinstance(groups, int)
        apart = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        weight = (apart * scale.reshape(groups, 1, -1, 1, 1)).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    dtype = weights[f"{first.name}.weight"].dtype
    return {f"{first.name}.weight": weight.astype(dtype), f"{first.name}.bias": (scale * bias + shift).astype(dtype)}


def _pad(draft: _Draft, operator: Operator) -> None:
    source = draft.operators.get(operator.inputs[0])
    if operator.kind != "conv2d" or source is None or source.kind != "pad" or not draft.private(source):
        return
    amounts, padding = source.attributes["padding"], operator.attributes["padding"]
    assert isinstance(amounts, tuple)
    assert isinstance(padding, tuple)
    left, right, top, bottom = amounts
    if (left, top) != (right, bottom) or min(amounts) < 0:
        return
    if source.attributes["mode"] != "constant" or source.attributes["value"] != 0:
        return
    if len(draft.unit(source.name)) > 1 and source.name == draft.unit(source.name)[-1]:
        return  # a unit's output is its last operator
    wider = {**operator.attributes, "padding": (padding[0] + top, padding[1] + left)}
    draft.operators[operator.name] = Operator(operator.name, operator.kind, operator.inputs, wider)
    draft.remove(source, source.inputs[0])


def _fuse(draft: _Draft, operator: Operator) -> None:
    if operator.kind not in FUSED_ACTIVATIONS or spec(operator.kind).attributes:
        return
    first = draft.absorber(operator)
    if first is not None:
        draft.absorb(first, operator, {"activation": operator.kind})


def _folded_weights(weights: Mapping[str, Array], convolution: Operator, norm: Operator) -> dict[str, Array]:
    """y = γ (W x + b - μ) / √(σ² + ε) + β as a convolution: scale = γ / √(σ² + ε), W' = scale W,
    b' = scale (b - μ) + β."""

    where = f"folding {norm.name!r}"
    eps = norm.attributes["eps"]
    assert isinstance(eps, float)
    weight = _given(weights, convolution, "weight", where)
    bias = _given(weights, convolution, "bias", where) if convolution.attributes["bias"] else 0.0
    scale = _given(weights, norm, "weight", where) / np.sqrt(_given(weights, norm, "running_var", where) + eps)
    bias = scale * (bias - _given(weights, norm, "running_mean", where)) + _given(weights, norm, "bias", where)
    dtype = weights[f"{convolution.name}.weight"].dtype
    return {
        f"{convolution.name}.weight": (weight * scale[:, None, None, None]).astype(dtype),
        f"{convolution.name}.bias": bias.astype(dtype),
    }


def _given(weights: Mapping[str, Array], operator: Operator, parameter: str, where: str) -> Exact:
    name = f"{operator.name}.{parameter}"
    if name not in weights:
        raise UsageError(f"the weight {name!r} is missing", where=where)
    return weights[name].astype(np.float64)
