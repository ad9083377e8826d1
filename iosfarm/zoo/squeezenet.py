"""SqueezeNet 1.0 with complex bypass (Iandola et al., arXiv 1602.07360, Figure 2, right).

Fire modules 3, 5, 7 and 9 have an identity bypass; 2, 4, 6 and 8, which change the number of channels, one through a
1x1 convolution. The paper does not say whether a ReLU follows that convolution; the network that IOS was measured on
has one.
"""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import conv_relu

# Table 1 of the paper: (squeeze, expand 1x1 = expand 3x3) of fire2 to fire9; None is a max pool.
_FIRES = ((16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192), (64, 256), None, (64, 256))


def squeezenet(*, classes: int = 1000, image_size: int = 224) -> Graph:
    """Eight fire modules; 50 units."""
    b = GraphBuilder("squeezenet")
    x = b.input((3, image_size, image_size), name="input")
    # Padding 2 gives the 111x111 output of the paper's Table 1.
    x = conv_relu(b, x, 96, 7, stride=2, padding=2)
    x = b.max_pool(x, 3, stride=2)
    for fire in _FIRES:
        x = b.max_pool(x, 3, stride=2) if fire is None else _fire(b, x, *fire)
    x = conv_relu(b, x, classes, 1)
    with b.unit("classifier"):
        x = b.flatten(b.global_avg_pool(x))
    return b.build(x)


def _fire(b: GraphBuilder, x: Value, squeeze: int, expand: int) -> Value:
    squeezed = conv_relu(b, x, squeeze, 1)
    one = conv_relu(b, squeezed, expand, 1)
    three = conv_relu(b, squeezed, expand, 3, padding=1)
    y = b.concat(one, three)
    bypass = x if b.channels(x) == 2 * expand else conv_relu(b, x, 2 * expand, 1)
    return b.add(y, bypass)
