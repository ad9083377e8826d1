"""Merged convolutions compute what the single ones do, and are found where they exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.ir.merge import merge_class, merged_convolution
from iosfarm.ir.operators import Attribute
from iosfarm.ir.schedule import mergeable

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """One convolution's own part of the attributes."""

    kernel: Pair
    padding: Pair


def pairs(least: int, most: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


def attributes(window: Window, stride: Pair, dilation: Pair) -> dict[str, Attribute]:
    return {"kernel": window.kernel, "padding": window.padding, "stride": stride, "dilation": dilation}


def outputs(x: Tensor, window: Window, weight: Tensor, stride: Pair, dilation: Pair) -> Tensor | None:
    try:
        return F.conv2d(x, weight, None, stride, window.padding, dilation)
    except RuntimeError:
        return None


WINDOWS = st.builds(Window, pairs(1, 5), pairs(0, 3))


@settings(max_examples=400, deadline=None)
@given(
    windows=st.lists(WINDOWS, min_size=2, max_size=4),
    stride=pairs(1, 3),
    dilation=st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]),
    size=pairs(1, 12),
    same=st.booleans(),
)
def test_merged_is_equal_to_separate(
    windows: list[Window], stride: Pair, dilation: Pair, size: Pair, same: bool
) -> None:
    if same:  # windows that keep the size, as networks have them
        windows = [Window((2 * w.padding[0] + 1, 2 * w.padding[1] + 1), w.padding) for w in windows]
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weights = [torch.randn(2, 3, *w.kernel, dtype=torch.float64) for w in windows]
    separate = [outputs(x, w, weight, stride, dilation) for w, weight in zip(windows, weights, strict=True)]
    # One merge class has one output size.
    assume(all(y is not None and separate[0] is not None and y.shape == separate[0].shape for y in separate))
    merged = merged_convolution([attributes(w, stride, dilation) for w in windows], size)
    if dilation == (1, 1):
        # The merged output size lies between those of the single ones, which are equal.
        assert merged is not None
    assume(merged is not None)
    assert merged is not None
    large = torch.zeros(2 * len(windows), 3, *merged.kernel, dtype=torch.float64)
    for i, (weight, (row, column)) in enumerate(zip(weights, merged.offsets, strict=True)):
        height, width = weight.shape[2:]
        large[2 * i : 2 * i + 2, :, row : row + height, column : column + width] = weight
    together = F.conv2d(x, large, None, stride, merged.padding, dilation)
    expected = torch.cat([y for y in separate if y is not None], 1)
    assert together.shape == expected.shape
    torch.testing.assert_close(together, expected)


def test_offsets_of_a_fire_module() -> None:
    windows = [Window((1, 1), (0, 0)), Window((3, 3), (1, 1)), Window((1, 7), (0, 3))]
    merged = merged_convolution([attributes(w, (1, 1), (1, 1)) for w in windows], (17, 17))
    assert merged is not None
    assert (merged.kernel, merged.padding, merged.offsets) == ((3, 7), (1, 3), ((1, 3), (0, 2), (1, 0)))


@settings(max_examples=200, deadline=None)
@given(windows=st.lists(WINDOWS, min_size=2, max_size=3), stride=pairs(1, 3), size=pairs(1, 9))
def test_convolutions_of_several_output_sizes_are_not_merged(windows: list[Window], stride: Pair, size: Pair) -> None:
    x = torch.zeros(1, 1, *size)
    results = [outputs(x, w, torch.zeros(1, 1, *w.kernel), stride, (1, 1)) for w in windows]
    assume(len({y.shape for y in results if y is not None}) > 1)
    assert merged_convolution([attributes(w, stride, (1, 1)) for w in windows], size) is None


def pair_of(first: dict[str, object], second: dict[str, object], shared: bool = True) -> Graph:
    b = GraphBuilder("pair")
    x = b.input((8, 9, 9))
    y = x if shared else b.input((8, 9, 9))

    def convolution(source: Value, changes: dict[str, object]) -> Value:
        base: dict[str, Any] = {"out_channels": 4, "kernel": (3, 3), "padding": (1, 1)}
        return b.operator("conv2d", [source], **{**base, **changes})

    return b.build(convolution(x, first), convolution(y, second))


@pytest.mark.parametrize(
    ("changes", "merged"),
    [
        ({}, True),
        ({"out_channels": 12}, True),
        ({"bias": False}, True),
        ({"kernel": (1, 1), "padding": (0, 0)}, True),
        ({"kernel": (5, 1), "padding": (2, 0)}, True),
        ({"activation": "relu"}, False),
        ({"stride": (2, 2)}, False),
        ({"stride": (1, 2)}, False),
        ({"groups": 2}, False),
        ({"padding": (0, 0)}, False),
        ({"dilation": (2, 2), "padding": (2, 2)}, False),
    ],
)
def test_which_convolutions_are_mergeable(changes: dict[str, object], merged: bool) -> None:
    assert mergeable(pair_of({}, changes), [0, 1]) is merged
    assert mergeable(pair_of(changes, {}), [0, 1]) is merged


def test_dilated_convolutions_of_one_size_are_mergeable() -> None:
    dilated: dict[str, object] = {"dilation": (2, 2), "padding": (2, 2)}
    assert mergeable(pair_of(dilated, {**dilated, "out_channels": 7}), [0, 1])
    # Equal output sizes, but a 1x1 kernel has no place on the grid of a dilated one.
    assert not mergeable(pair_of(dilated, {"dilation": (2, 2), "kernel": (1, 1), "padding": (0, 0)}), [0, 1])


def test_what_is_never_mergeable() -> None:
    assert not mergeable(pair_of({}, {}, shared=False), [0, 1])
    assert not mergeable(pair_of({}, {}), [0])
    assert not mergeable(pair_of({"groups": 2}, {"groups": 2}), [0, 1])
    b = GraphBuilder("others")
    x = b.input((8, 9, 9))
    with b.unit("chain"):
        y = b.relu(b.conv2d(x, 4, 1))
    graph = b.build(y, b.conv2d(x, 4, 1), b.relu(x), b.relu(x))
    assert merge_class(graph, 0) is None
    assert not mergeable(graph, [0, 1])
    assert not mergeable(graph, [2, 3])
