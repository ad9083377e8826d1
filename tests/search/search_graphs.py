"""Random graphs to search, and graphs by their edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.search.parts import Part

SHAPE = (4, 8, 8)


@st.composite
def predecessors(draw: st.DrawFn, most: int = 7) -> list[int]:
    """A DAG: for each unit a bit set of earlier ones."""
    count = draw(st.integers(1, most))
    return [draw(st.integers(0, (1 << i) - 1)) for i in range(count)]


@st.composite
def sparse_edges(draw: st.DrawFn, most: int = 60) -> tuple[int, set[tuple[int, int]]]:
    """A DAG of nodes with few predecessors, near or far, with chains, joins, several sources and several sinks."""
    count = draw(st.integers(1, most))
    reach = draw(st.sampled_from([1, 3, most]))
    edges: set[tuple[int, int]] = set()
    for node in range(1, count):
        for _ in range(draw(st.integers(0, 2))):
            edges.add((draw(st.integers(max(0, node - reach), node - 1)), node))
    return count, edges


@st.composite
def graphs(draw: st.DrawFn, most: int = 6) -> Graph:
    """Convolutions that can or cannot be merged, pools, activations, joins and units of two operators."""
    b = GraphBuilder("random")
    values = [b.input((4, 8, 8))]
    for number in range(draw(st.integers(1, most))):
        x = draw(st.sampled_from(values))
        height, width = b.shape(x)[2:]
        kind = draw(st.sampled_from(["conv2d", "conv2d", "conv2d", "relu", "max_pool", "join", "two"]))
        alike = [v for v in values if b.shape(v)[2:] == (height, width)]
        if kind == "conv2d":
            kernel = draw(st.sampled_from([(1, 1), (1, 3), (3, 1), (3, 3), (4, 4)]))
            dilation = draw(st.sampled_from([1, 1, 2])) if kernel == (3, 3) else 1
            values.append(
                b.conv2d(
                    x,
                    draw(st.sampled_from([4, 8])),
                    kernel,
                    stride=draw(st.sampled_from([1, 1, 2])),
                    padding=(dilation * (kernel[0] // 2), dilation * (kernel[1] // 2)),
                    dilation=dilation,
                    groups=draw(st.sampled_from([1, 1, 2])),
                    activation=draw(st.sampled_from(["relu", "relu", "none"])),
                )
            )
        elif kind == "max_pool":
            values.append(b.max_pool(x, 3, padding=1))
        elif kind == "join":
            values.append(b.concat(*draw(st.lists(st.sampled_from(alike), min_size=2, max_size=3))))
        elif kind == "two":
            with b.unit(f"two_{number}"):
                values.append(b.conv2d(b.relu(x), 4, 1))
        else:
            values.append(b.relu(x))
    return b.build(*values)


def whole(graph: Graph) -> Part:
    """All of a graph as one part."""
    return Part(graph, 0, tuple(range(len(graph.units))))


def graph_of(count: int, edges: Iterable[tuple[int, int]]) -> Graph:
    """A graph of sums and ReLUs; nodes without predecessors read the input."""
    b = GraphBuilder("edges")
    x = b.input(SHAPE)
    sources: list[list[int]] = [[] for _ in range(count)]
    for before, after in sorted(set(edges)):
        sources[after].append(before)
    values: list[str] = []
    for node in range(count):
        read = [values[i] for i in sources[node]] or [x]
        values.append(b.add(*read) if len(read) > 1 else b.relu(read[0]))
    return b.build(*values)


def parallel(branches: Sequence[int]) -> Graph:
    """After one unit, as many branches of convolutions as there are numbers, so long, joined."""
    b = GraphBuilder("parallel")
    x = b.relu(b.input(SHAPE))
    ends = []
    for length in branches:
        y = x
        for _ in range(length):
            y = b.conv2d(y, 4, 3, padding=1)
        ends.append(y)
    return b.build(b.concat(*ends))
