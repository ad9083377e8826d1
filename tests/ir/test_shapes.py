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


@settings(max_examples=200, deadline=None)
@given(
    size=pairs(1, 5), kernel=pairs(1, 4), stride=pairs(1, 3), padding=pairs(0, 3), dilation=pairs(1, 3),
    extra=pairs(0, 2), batch=st.integers(1, 2),
)  # fmt: skip
def test_transposed_convolution_sizes(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, extra: Pair, batch: int
) -> None:
    window: dict[str, Attribute] = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": extra}
    ours = inferred("conv_transpose2d", [(2, *size)], batch, out_channels=3, kernel=kernel, **window)
    weight = torch.zeros(2, 3, *kernel)
    theirs = computed(
        lambda x: F.conv_transpose2d(x, weight, None, stride, padding, extra, 1, dilation), [(2, *size)], batch
    )
    assert ours == theirs


SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(left=SIZES, right=SIZES, batch=st.integers(1, 2))
def test_matmul(left: list[int], right: list[int], batch: int) -> None:
    ours = inferred("matmul", [tuple(left), tuple(right)], batch)
    # Ranks have to be equal, as everywhere.
    same = len(left) == len(right)
    assert ours == (computed(torch.matmul, [tuple(left), tuple(right)], batch) if same else None)


@settings(max_examples=100, deadline=None)
@given(shapes=st.lists(st.tuples(*[st.integers(1, 2)] * 2), min_size=3, max_size=3), batch=st.integers(1, 2))
def test_attention(shapes: list[Shape], batch: int) -> None:
    ours = inferred("attention", shapes, batch)
    fits = shapes[0][1] == shapes[1][1] and shapes[1][0] == shapes[2][0]
    assert ours == (computed(F.scaled_dot_product_attention, shapes, batch) if fits else None)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["sub", "div"]),
    left=st.tuples(*[st.integers(1, 3)] * 2),
    right=st.tuples(*[st.integers(1, 3)] * 2),
)
def test_two_operands(kind: str, left: Shape, right: Shape) -> None:
    function = torch.sub if kind == "sub" else torch.div
    assert inferred(kind, [left, right], 2) == computed(function, [left, right], 2)


PROGRAM = """{"flops": 1, "inputs": [[{"batch": 1}, 6, 4]], "output": {"node": 0}, "parameters": [],
  "nodes": [["aten.flip.default", [{"input": 0}, [1]], {}]], "shape": [{"batch": 1}, 2, 12]}"""

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
    ("linear", (3, 5, 9), {"out_features": 4}, lambda x: F.linear(x, torch.zeros(4, 9))),
    ("layer_norm", (3, 5), {"shape": (3, 5)}, lambda x: F.layer_norm(x, (3, 5))),
    ("group_norm", (4, 5), {"groups": 2}, lambda x: F.group_norm(x, 2)),
    ("local_response_norm", (4, 5, 3), {"size": 3}, lambda x: F.local_response_norm(x, 3)),
    ("log_softmax", (3, 5), {"axis": 2}, lambda x: F.log_softmax(x, 2)),
    ("reduce", (3, 5, 7), {"axes": (1, -1)}, lambda x: x.mean((1, -1))),
    ("reduce", (3, 5), {"axes": (2,), "keepdims": True, "function": "max"}, lambda x: x.amax(2, keepdim=True)),
    ("affine", (3, 5), {"scale": 2.0}, lambda x: 2 * x),
    ("scale", (3, 5, 7), {"shape": (3, 1, 1)}, lambda x: x * torch.ones(3, 1, 1)),
    ("shift", (3, 5), {"shape": (5,)}, lambda x: x + torch.ones(5)),
    ("clamp", (3,), {"max": 1.0}, lambda x: x.clamp(max=1.0)),
    ("power", (3, 5), {"exponent": 3.0}, lambda x: x**3),
    ("unary", (3, 5), {"function": "exp"}, torch.exp),
    ("prelu", (3, 5, 7), {}, lambda x: F.prelu(x, torch.ones(3))),
    ("reshape", (6, 4), {"shape": (-1, 3, 8)}, lambda x: x.reshape(-1, 3, 8)),
    ("transpose", (6, 4, 5), {"axes": (2, 0, 3, 1)}, lambda x: x.permute(2, 0, 3, 1)),
    ("constant", (6, 4), {"shape": (2, 3)}, lambda x: torch.zeros(x.shape[0], 2, 3)),
    ("slice", (6, 9), {"start": 1, "stop": 8, "axis": 2, "step": 3}, lambda x: x[:, :, 1:8:3]),
    ("opaque", (6, 4), {"program": PROGRAM}, lambda x: x.reshape(-1, 2, 12).flip(1)),
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
    ("reshape", [(6, 4)], {"shape": (1, 6, 4)}),
    ("reshape", [(6, 4)], {"shape": (-1, 5)}),
    ("reshape", [(6, 4)], {"shape": (-1, -1)}),
    ("transpose", [(6, 4)], {"axes": (0, 1)}),
    ("constant", [(6, 4)], {"shape": (0,)}),
    ("scale", [(6, 4)], {"shape": (6,)}),
    ("shift", [(6, 4)], {"shape": (1, 1, 6, 4)}),
    ("shift", [(6, 1)], {"shape": (1, 4)}),
    ("layer_norm", [(6, 4)], {"shape": (6,)}),
    ("layer_norm", [(6,)], {"shape": (1, 6)}),
    ("group_norm", [(6, 4)], {"groups": 4}),
    ("local_response_norm", [(6, 4, 4)], {"size": 0}),
    ("reduce", [(6, 4)], {"axes": (1, -2)}),
    ("reduce", [(6, 4)], {"axes": (0, 1, 2)}),
    ("reduce", [(6, 4)], {"axes": (1,), "function": "median"}),
    ("clamp", [(6, 4)], {"min": 2.0, "max": 1.0}),
    ("unary", [(6, 4)], {"function": "tangent"}),
    ("slice", [(6, 4)], {"start": 0, "stop": 3, "step": 0}),
    ("slice", [(6, 4)], {"start": 0, "stop": 3, "axis": 3}),
    ("attention", [(6, 4), (6, 4), (6, 4), (6, 6)], {"causal": True}),
    ("attention", [(6, 4), (6, 4), (6, 4), (5, 6)], {}),
    ("opaque", [(6, 4)], {"program": "[]"}),
    ("opaque", [(6, 5)], {"program": PROGRAM}),
    ("opaque", [(6, 4)], {"program": PROGRAM.replace('"input": 0', '"input": 1')}),
    ("opaque", [(6, 4)], {"program": PROGRAM.replace('"node": 0', '"node": 1')}),
    ("opaque", [(6, 4)], {"program": PROGRAM.replace("aten.flip.default", "os.system")}),
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
        "conv_transpose2d",
        "matmul",
        "attention",
        "sub",
        "div",
        *ACTIVATIONS,
    }
    assert tried == set(SPECS)
