"""RandWire, the regular regime (Xie et al., arXiv 1904.01569, Table 1): random wirings instead of designed blocks.

A node is one unit: sum of its inputs, ReLU, depthwise 3x3, pointwise 1x1 with the folded batch norm. The learned
positive weights of the sums are taken as one, and the mean over a stage's last nodes as a sum; constant factors
can be moved through the ReLU into the convolution after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.zoo.random_graphs import Wiring, read_edge_list, watts_strogatz

_NODES = (16, 32, 32, 32)  # N/2, N, N, N with N = 32
_NEIGHBOURS, _PROBABILITY = 4, 0.75  # WS(4, 0.75), the paper's best generator


def randwire(
    *,
    channels: int = 154,
    seed: int = 1,
    edge_lists: Sequence[str | Path] | None = None,
    classes: int = 1000,
    image_size: int = 224,
) -> Graph:
    """Four randomly wired stages; 120 units.

    channels: C of the paper: 154 has 61.5 M parameters and is what IOS was measured on, 109 has 31.9 M, 78 is its small
        network's. seed: of the Watts–Strogatz generator. edge_lists: four files to read the wirings from instead.

    Raises:
        UsageError: not four edge lists, or one that is no graph.
    """
    if edge_lists is None:
        wirings = [watts_strogatz(n, _NEIGHBOURS, _PROBABILITY, [seed, i]) for i, n in enumerate(_NODES)]
    elif len(edge_lists) == len(_NODES):
        wirings = [read_edge_list(path) for path in edge_lists]
    else:
        raise UsageError(f"{len(edge_lists)} edge lists", where="randwire", hint="give four, one for each stage")
    b = GraphBuilder("randwire")
    x = b.input((3, image_size, image_size), name="input")
    # No ReLU: every node begins with one.
    x = b.conv2d(x, channels // 2, 3, stride=2, padding=1)
    for stage, wiring in enumerate(wirings):
        x = _stage(b, x, wiring, channels * 2**stage)
    with b.unit():
        x = b.conv2d(b.relu(x), 1280, 1)
    x = b.global_avg_pool(x)
    with b.unit("classifier"):
        x = b.linear(b.flatten(x), classes)
    return b.build(x)


def _stage(b: GraphBuilder, x: Value, wiring: Wiring, channels: int) -> Value:
    predecessors = wiring.predecessors()
    values: dict[int, Value] = {}
    for node in wiring.depth_first():
        sources = predecessors[node]
        # A node without predecessors reads the stage's input and halves its resolution.
        inputs = [values[source] for source in sources] or [x]
        with b.unit():
            y = b.add(*inputs) if len(inputs) > 1 else inputs[0]
            y = b.depthwise(b.relu(y), 3, stride=1 if sources else 2, padding=1)
            values[node] = b.conv2d(y, channels, 1)
    return b.add(*(values[node] for node in wiring.sinks()))
