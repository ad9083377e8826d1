"""Shape inference against torch: the same output sizes, and the same operators refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from iosfarm.ir.errors import GraphError
from iosfarm.ir.graph import Graph, GraphInput, Operator
from iosfarm.ir.operators import ACTIVATIONS, SPECS, Attribute, Shape

Pair = tuple[int, int]


def inferred(kind: str, shapes: list[Shape], batch: int = 1, **attributes: Attribute) -> Shape | None:
    """Shape of one operator, None where it is refused."""
    names = [f"x{i}" for i in range(len(shapes))]
    try:
        graph = Graph(
            "g",
            [GraphInput(name, shape) for name, shape in zip(names, shapes, strict=True)],
            [Operator("op", kind, tuple(names), attributes)],
            ["op"],
            batch=batch,
        )
    except GraphError:
        return None
    return graph.shape("op")


def computed(function: Callable[..., Tensor], shapes: list[Shape], batch: int = 1) -> Shape | None:
    """What torch makes of it; nothing at all counts as refused."""
    try:
        result = function(*(torch.zeros(batch, *shape) for shape in shapes))
    except (RuntimeError, ValueError):
        return None
    return tuple(result.shape) if result.numel() else None


def pairs(least: int, most: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


@settings(max_examples=300, deadline=None)
@given(
    size=pairs(1, 9), kernel=pairs(1, 4), stride=pairs(1, 3), padding=pairs(0, 3), dilation=pairs(1, 3),
    batch=st.integers(1, 2),
)  # fmt: skip
def test_convolution_sizes(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, batch: int) -> None:
    window: dict[str, Attribute] = {"stride": stride, "padding": padding, "dilation": dilation}
    ours = inferred("conv2d", [(2, *size)], batch, out_channels=3, kernel=kernel, **window)
    weight = torch.zeros(3, 2, *kernel)
    assert ours == computed(lambda x: F.conv2d(x, weight, None, stride, padding, dilation), [(2, *size)], batch)


@settings(max_examples=100, deadline=None)
@given(channels=st.integers(1, 8), out=st.integers(1, 8), groups=st.integers(1, 4))
def test_convolution_groups(channels: int, out: int, groups: int) -> None:
    ours = inferred("conv2d", [(channels, 2, 2)], out_channels=out, kernel=(1, 1), groups=groups)
    weight = torch.zeros(out, max(1, channels // groups), 1, 1)
    theirs = computed(lambda x: F.conv2d(x, weight, groups=groups), [(channels, 2, 2)])
    assert ours == (theirs if channels % groups == 0 and out % groups == 0 else None)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(["max_pool", "avg_pool"]), size=pairs(1, 9), kernel=pairs(1, 5), stride=pairs(1, 4),
    padding=pairs(0, 3), ceil=st.booleans(),
)  # fmt: skip
def test_pooling(kind: str, size: Pair, kernel: Pair, stride: Pair, padding: Pair, ceil: bool) -> None:
    pool: Callable[..., Tensor] = F.max_pool2d if kind == "max_pool" else F.avg_pool2d
    ours = inferred(kind, [(2, *size)], kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil)
    assert ours == computed(lambda x: pool(x, kernel, stride, padding, ceil_mode=ceil), [(2, *size)])


@settings(max_examples=300, deadline=None)
@given(
    size=pairs(1, 6),
    padding=st.tuples(*[st.integers(-4, 6)] * 4),
    mode=st.sampled_from(["constant", "reflect", "replicate"]),
)
def test_pad(size: Pair, padding: tuple[int, int, int, int], mode: str) -> None:
    ours = inferred("pad", [(2, *size)], padding=padding, mode=mode)
    # torch differs between modes on what padding means where all of the input is cropped away; we refuse that.
    left, right, top, bottom = (min(0, amount) for amount in padding)
    cropped = size[0] + top + bottom < 1 or size[1] + left + right < 1
    assert ours == (None if cropped else computed(lambda x: F.pad(x, padding, mode=mode), [(2, *size)]))


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(["add", "mul"]), data=st.data(), count=st.integers(1, 3), batch=st.integers(1, 3))
def test_broadcast(kind: str, data: st.DataObject, count: int, batch: int) -> None:
    shape = st.one_of(st.tuples(*[st.integers(1, 3)] * 3), st.tuples(st.integers(1, 3)))
    shapes = [data.draw(shape) for _ in range(count)]
    ours = inferred(kind, list(shapes), batch)
    # Ranks have to be equal: numpy and torch would align [batch, features] with the last two axes of an image.
    same_rank = len({len(shape) for shape in shapes}) == 1
    try:
        theirs = np.broadcast_shapes(*((batch, *shape) for shape in shapes)) if same_rank else None
    except ValueError:
        theirs = None
    assert ours == theirs


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.tuples(*[st.integers(1, 2)] * 3), st.tuples(st.integers(1, 3))), min_size=1, max_size=3))
def test_concat(shapes: list[Shape]) -> None:
    assert inferred("concat", shapes, 2) == computed(lambda *x: torch.cat(x, 1), shapes, 2)


FIXED: list[tuple[str, Shape, dict[str, Attribute], Callable[[Tensor], Tensor]]] = [
    ("global_avg_pool", (3, 5, 7), {}, lambda x: F.adaptive_avg_pool2d(x, 1)),
    ("global_max_pool", (3, 5, 7), {}, lambda x: F.adaptive_max_pool2d(x, 1)),
    ("adaptive_avg_pool", (3, 5, 7), {"output_size": (2, 9)}, lambda x: F.adaptive_avg_pool2d(x, (2, 9))),
    ("adaptive_max_pool", (3, 5, 7), {"output_size": (6, 1)}, lambda x: F.adaptive_max_pool2d(x, (6, 1))),
    ("resize", (3, 5, 7), {"size": (10, 3)}, lambda x: F.interpolate(x, (10, 3))),
    ("resize", (3, 5, 7), {"size": (1, 8), "mode": "bilinear", "align_corners": True},
     lambda x: F.interpolate(x, (1, 8), mode="bilinear", align_corners=True)),
    ("slice", (6, 5, 7), {"start": 1, "stop": 4}, lambda x: x[:, 1:4]),
    ("slice", (6,), {"start": 5, "stop": 6}, lambda x: x[:, 5:6]),
    ("flatten", (3, 5, 7), {}, lambda x: torch.flatten(x, 1)),
    ("flatten", (9,), {}, lambda x: torch.flatten(x, 1)),
    ("linear", (9,), {"out_features": 4}, lambda x: F.linear(x, torch.zeros(4, 9))),
    ("batch_norm", (3, 5, 7), {}, lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3))),
    ("softmax", (3, 5, 7), {"axis": -4}, lambda x: F.softmax(x, -4)),
    ("softmax", (3,), {"axis": 1}, lambda x: F.softmax(x, 1)),
    ("dropout", (3, 5, 7), {"rate": 0.2}, lambda x: F.dropout(x, 0.2, training=False)),
]  # fmt: skip


@pytest.mark.parametrize("case", FIXED, ids=lambda case: f"{case[0]}-{len(case[1])}d")
def test_fixed(case: tuple[str, Shape, dict[str, Attribute], Callable[[Tensor], Tensor]]) -> None:
    kind, shape, attributes, function = case
    for batch in (1, 4):
        ours = inferred(kind, [shape], batch, **attributes)
        assert ours is not None
        assert ours == computed(function, [shape], batch)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_keep_any_shape(kind: str) -> None:
    for shape in ((4,), (4, 2, 3)):
        assert inferred(kind, [shape], 2) == (2, *shape)


REFUSED: list[tuple[str, list[Shape], dict[str, Attribute]]] = [
    ("conv2d", [(3,)], {"out_channels": 1, "kernel": (1, 1)}),
    ("conv2d", [(3, 5, 5)], {"out_channels": 0, "kernel": (1, 1)}),
    ("conv2d", [(3, 5, 5)], {"out_channels": 1, "kernel": (1,)}),
    ("conv2d", [(3, 5, 5)], {"out_channels": 1, "kernel": (0, 1)}),
    ("conv2d", [(3, 5, 5)], {"out_channels": 1, "kernel": (1, 1), "stride": (0, 1)}),
    ("conv2d", [(3, 5, 5)], {"out_channels": 1, "kernel": (1, 1), "padding": (-1, 0)}),
    ("conv2d", [(3, 5, 5)], {"out_channels": 1, "kernel": (1, 1), "dilation": (1, 0)}),
    ("conv2d", [(3, 5, 5)], {"out_channels": 1, "kernel": (1, 1), "groups": 0}),
    ("conv2d", [(3, 5, 5), (3, 5, 5)], {"out_channels": 1, "kernel": (1, 1)}),
    ("linear", [(3, 5, 5)], {"out_features": 4}),
    ("linear", [(3,)], {"out_features": 0}),
    ("batch_norm", [(3,)], {}),
    ("global_avg_pool", [(3,)], {}),
    ("adaptive_avg_pool", [(3, 5, 5)], {"output_size": (0, 1)}),
    ("slice", [(6, 5, 5)], {"start": 3, "stop": 3}),
    ("slice", [(6, 5, 5)], {"start": -1, "stop": 3}),
    ("slice", [(6, 5, 5)], {"start": 3, "stop": 7}),
    ("pad", [(3, 5, 5)], {"padding": (1, 1)}),
    ("pad", [(3, 5, 5)], {"padding": (1, 1, 1, 1), "mode": "circular"}),
    ("resize", [(3, 5, 5)], {"size": (0, 4)}),
    ("resize", [(3, 5, 5)], {"size": (4, 4), "mode": "bicubic"}),
    ("resize", [(3, 5, 5)], {"size": (4, 4), "align_corners": True}),
    ("softmax", [(3, 5, 5)], {"axis": 4}),
    ("softmax", [(3, 5, 5)], {"axis": -5}),
    ("dropout", [(3, 5, 5)], {"rate": 1.0}),
    ("dropout", [(3, 5, 5)], {"rate": -0.1}),
    ("relu", [(3, 5, 5), (3, 5, 5)], {}),
    ("add", [], {}),
    ("concat", [], {}),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]}-{case[2]}")
def test_refused(case: tuple[str, list[Shape], dict[str, Attribute]]) -> None:
    kind, shapes, attributes = case
    with pytest.raises(GraphError, match="'op'"):
        Graph(
            "g",
            [GraphInput("in", (1,)), *(GraphInput(f"x{i}", shape) for i, shape in enumerate(shapes))],
            [Operator("op", kind, tuple(f"x{i}" for i in range(len(shapes))), attributes)],
            ["op"],
        )


def test_every_operator_kind_is_tried_here() -> None:
    tried = {case[0] for case in FIXED} | {
        "conv2d",
        "max_pool",
        "avg_pool",
        "pad",
        "add",
        "mul",
        "concat",
        *ACTIVATIONS,
    }
    assert tried == set(SPECS)
