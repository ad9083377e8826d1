"""AlexNet in its one-tower form (Krizhevsky, arXiv 1404.5997; the layer sizes are torchvision's)."""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import conv_relu


def alexnet(*, classes: int = 1000, image_size: int = 224) -> Graph:
    """Five convolutions and three linear layers in a row: nothing to run side by side, a baseline."""
    b = GraphBuilder("alexnet")
    x = b.input((3, image_size, image_size), name="input")
    x = conv_relu(b, x, 64, 11, stride=4, padding=2)
    x = b.max_pool(x, 3, stride=2)
    x = conv_relu(b, x, 192, 5, padding=2)
    x = b.max_pool(x, 3, stride=2)
    x = conv_relu(b, x, 384, 3, padding=1)
    x = conv_relu(b, x, 256, 3, padding=1)
    x = conv_relu(b, x, 256, 3, padding=1)
    x = b.max_pool(x, 3, stride=2)
    with b.unit():
        x = b.flatten(b.adaptive_avg_pool(x, 6))
    x = b.linear(x, 4096, activation="relu")
    x = b.linear(x, 4096, activation="relu")
    return b.build(b.linear(x, classes))
