"""NASNet-A Large, 6 @ 4032 (Zoph et al., arXiv 1707.07012, Figure 4 and appendix A.4).

How operators form units: `ReLU, 1x1 convolution` is one; a separable convolution is applied twice and each application
`ReLU, depthwise, pointwise` is one; a pool is one; a cell's last unit is its concat with the adds that only it
reads. Batch norm is folded. Paddings are symmetric, as in the usual PyTorch port of the network.
"""

from __future__ import annotations

from typing import Literal

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import classifier

Wiring = Literal["published", "ios"]


def nasnet_large(
    *, classes: int = 1000, image_size: int = 331, filters: int = 168, wiring: Wiring = "published"
) -> Graph:
    """Two stem cells, then three times six normal cells with a reduction cell between; 374 units.

    filters: channels of one branch in the first normal cells; the last concat has 24 times as many.
    wiring: "published" is NASNet-A. "ios" is what the IOS paper's figures (its Table 1) were counted on: in the first
        cell after a reduction the 3x3 separable convolution of the first combination reads the cell's current input
        where NASNet-A reads the previous one. The units are as many and their chains as long; the search space of that
        cell is 7% larger.
    """
    b = GraphBuilder("nasnet_large")
    x = b.input((3, image_size, image_size), name="input")
    conv0 = b.conv2d(x, 96, 3, stride=2)
    stem0 = _stem_cell_0(b, conv0, filters // 4)
    stem1 = _stem_cell_1(b, stem0, conv0, filters // 2)
    before, x = stem0, stem1
    for stage in range(3):
        channels = filters * 2**stage
        if stage:
            # The first cell after a reduction skips it: its previous input is also the reduction's own.
            reduced = _reduction_cell(b, x, before, channels)
            x = reduced
        before, x = x, _first_cell(b, x, before, channels, wiring)
        for _ in range(5):
            before, x = x, _normal_cell(b, x, before, channels)
    return b.build(classifier(b, b.relu(x), classes))


def _relu_conv(b: GraphBuilder, x: Value, channels: int) -> Value:
    with b.unit():
        return b.conv2d(b.relu(x), channels, 1)


def _halved(b: GraphBuilder, x: Value, channels: int) -> Value:
    """Factorised reduction: two 1x1 convolutions read every second pixel, the second one shifted by one pixel.

    The published 1x1 average pool of stride 2 before each is the same as stride 2 in the convolution.
    """
    with b.unit():
        first = b.conv2d(b.relu(x), channels // 2, 1, stride=2)
    with b.unit():
        shifted = b.pad(b.relu(x), (-1, 1, -1, 1))
        second = b.conv2d(shifted, channels - channels // 2, 1, stride=2)
    return b.concat(first, second)


def _separable(b: GraphBuilder, x: Value, channels: int, kernel: int, stride: int = 1) -> Value:
    for step in (stride, 1):
        with b.unit():
            x = b.depthwise(b.relu(x), kernel, stride=step, padding=kernel // 2)
            x = b.conv2d(x, channels, 1)
    return x


def _avg_pool(b: GraphBuilder, x: Value, stride: int = 1) -> Value:
    return b.avg_pool(x, 3, stride=stride, padding=1, count_include_pad=False)


def _max_pool(b: GraphBuilder, x: Value) -> Value:
    return b.max_pool(x, 3, stride=2, padding=1)


def _normal_cell(b: GraphBuilder, x: Value, before: Value, channels: int) -> Value:
    left, right = _relu_conv(b, before, channels), _relu_conv(b, x, channels)
    return _normal_combinations(b, left, right, first=left)


def _first_cell(b: GraphBuilder, x: Value, before: Value, channels: int, wiring: Wiring) -> Value:
    """A normal cell whose previous input has twice the resolution of the current one."""
    left, right = _halved(b, before, channels), _relu_conv(b, x, channels)
    return _normal_combinations(b, left, right, first=right if wiring == "ios" else left)


def _normal_combinations(b: GraphBuilder, left: Value, right: Value, *, first: Value) -> Value:
    channels = b.channels(right)
    c0 = _separable(b, right, channels, 5), _separable(b, first, channels, 3)
    c1 = _separable(b, left, channels, 5), _separable(b, left, channels, 3)
    c2 = _avg_pool(b, right), left
    c3 = _avg_pool(b, left), _avg_pool(b, left)
    c4 = _separable(b, right, channels, 3), right
    with b.unit():
        return b.concat(left, *(b.add(*pair) for pair in (c0, c1, c2, c3, c4)))


def _reduction_cell(b: GraphBuilder, x: Value, before: Value, channels: int) -> Value:
    left, right = _relu_conv(b, before, channels), _relu_conv(b, x, channels)
    return _reduction_combinations(b, near=right, far=left, channels=channels)


def _stem_cell_0(b: GraphBuilder, x: Value, channels: int) -> Value:
    """A reduction cell with one input, which stands for both."""
    return _reduction_combinations(b, near=_relu_conv(b, x, channels), far=x, channels=channels)


def _stem_cell_1(b: GraphBuilder, x: Value, before: Value, channels: int) -> Value:
    """A reduction cell whose previous input has twice the resolution of the current one."""
    left, right = _relu_conv(b, x, channels), _halved(b, before, channels)
    return _reduction_combinations(b, near=left, far=right, channels=channels)


def _reduction_combinations(b: GraphBuilder, *, near: Value, far: Value, channels: int) -> Value:
    """near: the current input, which is pooled. far: the previous one, whose kernels are larger."""
    c0 = b.add(_separable(b, near, channels, 5, 2), _separable(b, far, channels, 7, 2))
    c1 = b.add(_max_pool(b, near), _separable(b, far, channels, 7, 2))
    c2 = _avg_pool(b, near, 2), _separable(b, far, channels, 5, 2)
    c3 = _avg_pool(b, c0), c1
    c4 = _separable(b, c0, channels, 3), _max_pool(b, near)
    with b.unit():
        return b.concat(c1, *(b.add(*pair) for pair in (c2, c3, c4)))
