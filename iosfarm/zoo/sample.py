"""The motivating block of the IOS paper (Ding et al., MLSys 2021, Figure 2): four convolutions in three branches."""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.zoo.layers import conv_relu


def sample(*, channels: int = 384, image_size: int = 15) -> Graph:
    """a and then b, beside c, beside d; b and d have twice the channels. With 384 channels at 15x15, a and c take
    0.6 GFLOPs and b and d 1.2, which leaves a large GPU half empty when they run one after another.
    """
    b = GraphBuilder("sample")
    x = b.input((channels, image_size, image_size), name="input")
    first = conv_relu(b, x, channels, 3, padding=1)
    first = conv_relu(b, first, 2 * channels, 3, padding=1)
    second = conv_relu(b, x, channels, 3, padding=1)
    third = conv_relu(b, x, 2 * channels, 3, padding=1)
    return b.build(b.concat(first, second, third))
