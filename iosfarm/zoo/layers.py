"""Pieces that several networks share."""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder, IntOrPair, Value


def conv_relu(
    b: GraphBuilder, x: Value, channels: int, kernel: IntOrPair, *, stride: int = 1, padding: IntOrPair = 0
) -> Value:
    """A convolution, its folded batch norm (if it had one) and its ReLU: one operator."""
    return b.conv2d(x, channels, kernel, stride=stride, padding=padding, activation="relu")


def classifier(b: GraphBuilder, x: Value, classes: int) -> Value:
    """Global average pool, flatten, linear: one unit, because nothing can run beside any of them."""
    with b.unit("classifier"):
        x = b.flatten(b.global_avg_pool(x))
        return b.linear(x, classes)
