"""ResNet (He et al., arXiv 1512.03385), with the stride of a bottleneck in its 3x3 convolution as in torchvision."""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import classifier, conv_relu

_EXPANSION = 4  # a bottleneck's output has four times the channels of its 3x3 convolution


def resnet18(*, classes: int = 1000, image_size: int = 224) -> Graph:
    """Basic blocks, [2, 2, 2, 2]."""
    return _resnet("resnet18", (2, 2, 2, 2), False, classes, image_size)


def resnet34(*, classes: int = 1000, image_size: int = 224) -> Graph:
    """Basic blocks, [3, 4, 6, 3]."""
    return _resnet("resnet34", (3, 4, 6, 3), False, classes, image_size)


def resnet50(*, classes: int = 1000, image_size: int = 224) -> Graph:
    """Bottleneck blocks, [3, 4, 6, 3]."""
    return _resnet("resnet50", (3, 4, 6, 3), True, classes, image_size)


def _resnet(name: str, blocks: tuple[int, ...], bottleneck: bool, classes: int, image_size: int) -> Graph:
    b = GraphBuilder(name)
    x = b.input((3, image_size, image_size), name="input")
    x = conv_relu(b, x, 64, 7, stride=2, padding=3)
    x = b.max_pool(x, 3, stride=2, padding=1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            x = (_bottleneck if bottleneck else _basic)(b, x, 64 * 2**stage, stride)
    return b.build(classifier(b, x, classes))


def _basic(b: GraphBuilder, x: Value, channels: int, stride: int) -> Value:
    y = conv_relu(b, x, channels, 3, stride=stride, padding=1)
    y = b.conv2d(y, channels, 3, padding=1)
    return b.add(y, _shortcut(b, x, channels, stride), activation="relu")


def _bottleneck(b: GraphBuilder, x: Value, channels: int, stride: int) -> Value:
    y = conv_relu(b, x, channels, 1)
    y = conv_relu(b, y, channels, 3, stride=stride, padding=1)
    y = b.conv2d(y, _EXPANSION * channels, 1)
    return b.add(y, _shortcut(b, x, _EXPANSION * channels, stride), activation="relu")


def _shortcut(b: GraphBuilder, x: Value, channels: int, stride: int) -> Value:
    """The identity, or a 1x1 convolution where the shape changes."""
    if stride == 1 and b.channels(x) == channels:
        return x
    return b.conv2d(x, channels, 1, stride=stride)
