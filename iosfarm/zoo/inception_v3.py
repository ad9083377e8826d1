"""Inception V3 (Szegedy et al., arXiv 1512.00567) for inference: no auxiliary classifier, batch norm folded.

Layer sizes are those of the authors' released network, which torchvision's follows. Blocks are named A to E as there.
"""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import classifier, conv_relu


def inception_v3(*, classes: int = 1000, image_size: int = 299) -> Graph:
    """Eleven inception blocks; 119 units."""
    b = GraphBuilder("inception_v3")
    x = b.input((3, image_size, image_size), name="input")
    x = conv_relu(b, x, 32, 3, stride=2)
    x = conv_relu(b, x, 32, 3)
    x = conv_relu(b, x, 64, 3, padding=1)
    x = b.max_pool(x, 3, stride=2)
    x = conv_relu(b, x, 80, 1)
    x = conv_relu(b, x, 192, 3)
    x = b.max_pool(x, 3, stride=2)
    for pool_channels in (32, 64, 64):
        x = _block_a(b, x, pool_channels)
    x = _block_b(b, x)
    for channels in (128, 160, 160, 192):
        x = _block_c(b, x, channels)
    x = _block_d(b, x)
    for _ in range(2):
        x = _block_e(b, x)
    return b.build(classifier(b, x, classes))


def _pooled(b: GraphBuilder, x: Value, channels: int) -> Value:
    return conv_relu(b, b.avg_pool(x, 3, padding=1), channels, 1)


def _block_a(b: GraphBuilder, x: Value, pool_channels: int) -> Value:
    """35x35: 1x1; 1x1, 5x5; 1x1, 3x3, 3x3; pool, 1x1."""
    one = conv_relu(b, x, 64, 1)
    five = conv_relu(b, x, 48, 1)
    five = conv_relu(b, five, 64, 5, padding=2)
    three = conv_relu(b, x, 64, 1)
    three = conv_relu(b, three, 96, 3, padding=1)
    three = conv_relu(b, three, 96, 3, padding=1)
    return b.concat(one, five, three, _pooled(b, x, pool_channels))


def _block_b(b: GraphBuilder, x: Value) -> Value:
    """35x35 to 17x17."""
    single = conv_relu(b, x, 384, 3, stride=2)
    double = conv_relu(b, x, 64, 1)
    double = conv_relu(b, double, 96, 3, padding=1)
    double = conv_relu(b, double, 96, 3, stride=2)
    return b.concat(single, double, b.max_pool(x, 3, stride=2))


def _wide(b: GraphBuilder, x: Value, channels: int, length: int) -> Value:
    return conv_relu(b, x, channels, (1, length), padding=(0, length // 2))


def _tall(b: GraphBuilder, x: Value, channels: int, length: int) -> Value:
    return conv_relu(b, x, channels, (length, 1), padding=(length // 2, 0))


def _block_c(b: GraphBuilder, x: Value, channels: int) -> Value:
    """17x17, with 7x7 convolutions factorised into 1x7 and 7x1."""
    one = conv_relu(b, x, 192, 1)
    single = conv_relu(b, x, channels, 1)
    single = _wide(b, single, channels, 7)
    single = _tall(b, single, 192, 7)
    double = conv_relu(b, x, channels, 1)
    double = _tall(b, double, channels, 7)
    double = _wide(b, double, channels, 7)
    double = _tall(b, double, channels, 7)
    double = _wide(b, double, 192, 7)
    return b.concat(one, single, double, _pooled(b, x, 192))


def _block_d(b: GraphBuilder, x: Value) -> Value:
    """17x17 to 8x8."""
    single = conv_relu(b, x, 192, 1)
    single = conv_relu(b, single, 320, 3, stride=2)
    double = conv_relu(b, x, 192, 1)
    double = _wide(b, double, 192, 7)
    double = _tall(b, double, 192, 7)
    double = conv_relu(b, double, 192, 3, stride=2)
    return b.concat(single, double, b.max_pool(x, 3, stride=2))


def _block_e(b: GraphBuilder, x: Value) -> Value:
    """8x8, with branches that fork again. The inner concats are part of the outer one, whose order is the same."""
    one = conv_relu(b, x, 320, 1)
    single = conv_relu(b, x, 384, 1)
    single_wide = _wide(b, single, 384, 3)
    single_tall = _tall(b, single, 384, 3)
    double = conv_relu(b, x, 448, 1)
    double = conv_relu(b, double, 384, 3, padding=1)
    double_wide = _wide(b, double, 384, 3)
    double_tall = _tall(b, double, 384, 3)
    pooled = _pooled(b, x, 192)
    return b.concat(one, single_wide, single_tall, double_wide, double_tall, pooled)
