"""The stage that is measured between others: it is the same everywhere, its time changes only when the machine does."""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.stage import Stage


def reference_stage(layout: str) -> Stage:
    """A small convolution."""
    b = GraphBuilder("reference")
    graph = b.build(b.conv2d(b.input((64, 14, 14)), 64, 3, padding=1))
    return canonical_stage(graph, [[0]], layout=layout).stage
