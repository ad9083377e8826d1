"""Substitutions of convolutions: merge, enlarge, and take a sum into one convolution. All are exact."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import cast

import numpy as np

from iosfarm.ir.graph import Graph, Operator
from iosfarm.ir.merge import MergedConvolution, merge_class, merged_convolution
from iosfarm.search.substitutions.rewriting import Draft, Rewrite, Transform, Weights

Pair = tuple[int, int]


def merge(graph: Graph) -> Iterator[Rewrite]:
    """Two convolutions of one tensor, of the same kernel, become one, whose channels are cut apart again."""
    for first, second in _siblings(graph):
        a, b = first.attributes, second.attributes
        if (a["kernel"], a["padding"]) != (b["kernel"], b["padding"]):
            continue
        draft = Draft(graph)
        name = draft.fresh(f"{first.name}+{second.name}")
        sizes = [graph.shape(o.name)[1] for o in (first, second)]
        bias = bool(a["bias"] or b["bias"])
        draft.put(name, "conv2d", first.inputs, {**a, "out_channels": sum(sizes), "bias": bias})
        draft.put(first.name, "slice", (name,), {"start": 0, "stop": sizes[0]})
        draft.put(second.name, "slice", (name,), {"start": sizes[0], "stop": sum(sizes)})
        yield Rewrite("merge", draft.graph(), _joined(name, (first, second), sizes, bias))


def enlarge(graph: Graph) -> Iterator[Rewrite]:
    """A convolution gets the kernel of another one of the same tensor, zeros around its own, so that both can merge."""
    for pair in _siblings(graph):
        for small, large in (pair, pair[::-1]):
            found = _grown(graph, small, large)
            if found is None or small.attributes["kernel"] == found.kernel:
                continue
            if (large.attributes["kernel"], large.attributes["padding"]) != (found.kernel, found.padding):
                continue
            draft = Draft(graph)
            attributes = {**small.attributes, "kernel": found.kernel, "padding": found.padding}
            draft.put(small.name, "conv2d", small.inputs, attributes)
            yield Rewrite("enlarge", draft.graph(), _padded(small.name, found.kernel, found.offsets[0]))


def sum_inside(graph: Graph) -> Iterator[Rewrite]:
    """conv(x, v) + conv(y, w) = conv(x ‖ y, v ‖ w); where x is y, the weights are added up."""
    draft = Draft(graph)
    for add in graph.operators:
        if add.kind != "add" or len(add.inputs) != 2 or not draft.free(add.name):
            continue
        first, second = (draft.kind(name, "conv2d") for name in add.inputs)
        if first is None or second is None or first.name == second.name:
            continue
        if not (draft.private(first.name, add.name) and draft.private(second.name, add.name)):
            continue
        a, b = first.attributes, second.attributes
        if any(a[n] != b[n] for n in ("kernel", "stride", "padding", "dilation", "groups", "out_channels")):
            continue
        if a["groups"] != 1 or (a["activation"], b["activation"]) != ("none", "none"):
            continue
        x, y = first.inputs[0], second.inputs[0]
        if graph.shape(x)[2:] != graph.shape(y)[2:]:
            continue
        bias = bool(a["bias"] or b["bias"])
        attributes = {**a, "bias": bias, "activation": add.attributes["activation"]}
        changed = Draft(graph)
        if x == y:
            changed.put(add.name, "conv2d", (x,), attributes)
        else:
            joined = changed.fresh(f"{add.name}/inputs")
            changed.put(joined, "concat", (x, y), {})
            changed.put(add.name, "conv2d", (joined,), attributes)
        yield Rewrite("sum inside", changed.graph(), _added(add.name, (first, second), bias, same=x == y))


def _siblings(graph: Graph) -> Iterator[tuple[Operator, Operator]]:
    """Pairs of convolutions that `ir.merge` allows to merge, kernels aside."""
    classes: dict[object, list[Operator]] = {}
    for index, unit in enumerate(graph.units):
        found = merge_class(graph, index)
        if found is not None:
            classes.setdefault(found, []).append(graph.operator(unit.operators[0]))
    for members in classes.values():
        yield from combinations(members, 2)


def _grown(graph: Graph, small: Operator, large: Operator) -> MergedConvolution | None:
    height, width = graph.shape(small.inputs[0])[2:]
    return merged_convolution([small.attributes, large.attributes], (height, width))


# -- what becomes of the weights -------------------------------------------------------------------------------------


def _joined(name: str, parts: tuple[Operator, ...], sizes: list[int], bias: bool) -> Transform:
    def transform(weights: Weights) -> None:
        pieces = [weights.pop(f"{part.name}.weight") for part in parts]
        weights[f"{name}.weight"] = np.concatenate(pieces)
        biases = [
            weights.pop(f"{part.name}.bias") if part.attributes["bias"] else np.zeros(size, pieces[0].dtype)
            for part, size in zip(parts, sizes, strict=True)
        ]
        if bias:
            weights[f"{name}.bias"] = np.concatenate(biases)

    return transform


def _padded(name: str, kernel: Pair, offset: Pair) -> Transform:
    def transform(weights: Weights) -> None:
        small = weights[f"{name}.weight"]
        large = np.zeros((*small.shape[:2], *kernel), small.dtype)
        top, left = offset
        large[:, :, top : top + small.shape[2], left : left + small.shape[3]] = small
        weights[f"{name}.weight"] = large

    return transform


def _added(name: str, parts: tuple[Operator, ...], bias: bool, *, same: bool) -> Transform:
    def transform(weights: Weights) -> None:
        pieces = [weights.pop(f"{part.name}.weight") for part in parts]
        biases = [weights.pop(f"{part.name}.bias") for part in parts if part.attributes["bias"]]
        weights[f"{name}.weight"] = _sum(pieces) if same else np.concatenate(pieces, 1)
        if bias:
            weights[f"{name}.bias"] = _sum(biases)

    return transform


def _sum(
    arrays: list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    exact = [array.astype(np.float64) for array in arrays]
    return cast("np.ndarray[tuple[int, ...], np.dtype[np.generic]]", sum(exact[1:], exact[0]).astype(arrays[0].dtype))
