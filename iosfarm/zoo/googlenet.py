"""GoogLeNet (Szegedy et al., arXiv 1409.4842), without its auxiliary classifiers.

Local response normalisation is left out, as every later implementation does. Pools round their output size up.
"""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import classifier, conv_relu

# Table 1 of the paper: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection; a row for each inception module.
_MODULES = (
    (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
    ),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    (
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    ),
)


def googlenet(*, classes: int = 1000, image_size: int = 224) -> Graph:
    """Nine inception modules of four branches."""
    b = GraphBuilder("googlenet")
    x = b.input((3, image_size, image_size), name="input")
    x = conv_relu(b, x, 64, 7, stride=2, padding=3)
    x = b.max_pool(x, 3, stride=2, ceil_mode=True)
    x = conv_relu(b, x, 64, 1)
    x = conv_relu(b, x, 192, 3, padding=1)
    for modules in _MODULES:
        x = b.max_pool(x, 3, stride=2, ceil_mode=True)
        for sizes in modules:
            x = _inception(b, x, *sizes)
    return b.build(classifier(b, x, classes))


def _inception(b: GraphBuilder, x: Value, c1: int, r3: int, c3: int, r5: int, c5: int, pool: int) -> Value:
    one = conv_relu(b, x, c1, 1)
    three = conv_relu(b, conv_relu(b, x, r3, 1), c3, 3, padding=1)
    five = conv_relu(b, conv_relu(b, x, r5, 1), c5, 5, padding=2)
    pooled = conv_relu(b, b.max_pool(x, 3, padding=1), pool, 1)
    return b.concat(one, three, five, pooled)
