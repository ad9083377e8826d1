"""VGG (Simonyan and Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import conv_relu

# Configuration D of the paper's Table 1: (channels, convolutions) between one max pool and the next.
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(*, classes: int = 1000, image_size: int = 224) -> Graph:
    """Thirteen convolutions and three linear layers in a row."""
    b = GraphBuilder("vgg16")
    x = b.input((3, image_size, image_size), name="input")
    for channels, convolutions in _VGG16:
        for _ in range(convolutions):
            x = conv_relu(b, x, channels, 3, padding=1)
        x = b.max_pool(x, 2, stride=2)
    x = b.flatten(x)
    x = b.linear(x, 4096, activation="relu")
    x = b.linear(x, 4096, activation="relu")
    return b.build(b.linear(x, classes))
