"""The random network of 320 units: RandWire's unit, wired by one large Watts-Strogatz graph."""

from __future__ import annotations

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.zoo.random_graphs import watts_strogatz

CHANNELS, SIZE = 154, 56


def random_network(units: int = 320, neighbours: int = 20, probability: float = 0.75, seed: int = 0) -> Graph:
    """WS(neighbours, probability) on so many nodes, with the channels and the image of RandWire's first stage."""
    wiring = watts_strogatz(units, neighbours, probability, [seed])
    b = GraphBuilder(f"random_{units}")
    x = b.input((CHANNELS, SIZE, SIZE), name="input")
    before = wiring.predecessors()
    values: dict[int, Value] = {}
    for node in wiring.depth_first():
        read = [values[source] for source in before[node]] or [x]
        with b.unit():
            y = b.add(*read) if len(read) > 1 else read[0]
            values[node] = b.conv2d(b.depthwise(b.relu(y), 3, padding=1), CHANNELS, 1)
    return b.build(b.add(*(values[node] for node in wiring.sinks())))
