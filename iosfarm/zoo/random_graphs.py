"""Random wirings of RandWire's stages: generated, or read from edge-list files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iosfarm.ir.errors import UsageError

MAX_NODES = 1024
_ATTEMPTS = 1000  # Watts–Strogatz graphs are rarely disconnected; a thousand in a row means hopeless parameters


@dataclass(frozen=True)
class Wiring:
    """A directed acyclic graph on nodes 0..nodes-1; every edge (u, v) has u < v."""

    nodes: int
    edges: tuple[tuple[int, int], ...]

    def predecessors(self) -> list[list[int]]:
        """For each node the nodes that it reads from, ascending."""
        result: list[list[int]] = [[] for _ in range(self.nodes)]
        for u, v in sorted(self.edges):
            result[v].append(u)
        return result

    def depth_first(self) -> list[int]:
        """A topological order in which a node comes as soon as it can after the last of its predecessors."""
        successors: list[list[int]] = [[] for _ in range(self.nodes)]
        waiting = [0] * self.nodes
        for u, v in self.edges:
            successors[u].append(v)
            waiting[v] += 1
        ready = [node for node in range(self.nodes) if not waiting[node]]
        order = []
        while ready:
            order.append(ready.pop())
            for node in successors[order[-1]]:
                waiting[node] -= 1
                if not waiting[node]:
                    ready.append(node)
        return order

    def sinks(self) -> list[int]:
        """Nodes that no other reads."""
        read = {u for u, _ in self.edges}
        return [node for node in range(self.nodes) if node not in read]


def watts_strogatz(nodes: int, neighbours: int, probability: float, seed: int | Sequence[int]) -> Wiring:
    """WS(neighbours, probability) of the RandWire paper (Xie et al., arXiv 1904.01569, section 3.3).

    Nodes on a ring are joined to `neighbours / 2` next ones on either side; then, going round clockwise once for
    each distance, an edge gets a new random end with `probability`. Edges point from the lower number to the higher.
    Disconnected graphs are drawn again. The same arguments always give the same graph.

    Raises:
        UsageError: no such graph exists.
    """
    import numpy as np

    if not 3 <= nodes <= MAX_NODES:
        raise UsageError(f"a random graph of {nodes!r} nodes", hint=f"use 3 to {MAX_NODES}")
    if neighbours % 2 or not 2 <= neighbours < nodes:
        raise UsageError(f"{neighbours!r} neighbours of {nodes} nodes", hint=f"use an even number, 2 to {nodes - 1}")
    if not 0 <= probability <= 1:
        raise UsageError(f"a rewiring probability of {probability!r}", hint="use 0 to 1")
    if min([seed] if isinstance(seed, int) else seed) < 0:
        raise UsageError(f"a seed of {seed!r}", hint="use 0 or more")
    random = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        adjacent: list[set[int]] = [set() for _ in range(nodes)]
        for node in range(nodes):
            for distance in range(1, neighbours // 2 + 1):
                _join(adjacent, node, (node + distance) % nodes)
        for distance in range(1, neighbours // 2 + 1):
            for node in range(nodes):
                old = (node + distance) % nodes
                free = [other for other in range(nodes) if other != node and other not in adjacent[node]]
                # `old` can be gone already: rewiring the other way round may have moved this very edge.
                if random.random() < probability and free and old in adjacent[node]:
                    adjacent[node].remove(old)
                    adjacent[old].remove(node)
                    _join(adjacent, node, free[int(random.integers(len(free)))])
        wiring = Wiring(nodes, tuple((u, v) for u in range(nodes) for v in sorted(adjacent[u]) if u < v))
        if _unreached(wiring) is None:
            return wiring
    raise UsageError(f"no connected random graph of {nodes} nodes and {neighbours} neighbours in {_ATTEMPTS} draws")


def read_edge_list(path: str | Path) -> Wiring:
    """The graph of a text file: the number of nodes, the number of edges, then one `u v` a line with u < v.

    Raises:
        UsageError: the file cannot be read, or is no such graph; the line is named.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise UsageError(f"cannot read this edge list: {reason}", where=str(path)) from None
    while lines and not lines[-1].strip():
        lines.pop()
    nodes = _numbers(path, lines, 1, "the number of nodes")[0]
    count = _numbers(path, lines, 2, "the number of edges")[0]
    if not 1 <= nodes <= MAX_NODES:
        raise UsageError(f"{nodes} nodes", where=f"{path}:1", hint=f"use 1 to {MAX_NODES}")
    if count != len(lines) - 2:
        raise UsageError(f"{count} edges announced, {max(0, len(lines) - 2)} found", where=f"{path}:2")
    seen: set[tuple[int, int]] = set()
    for number in range(3, len(lines) + 1):
        u, v = _numbers(path, lines, number, "an edge `u v`", 2)
        if not 0 <= u < v < nodes:
            problem = "joins a node to itself" if u == v else "runs from the higher node to the lower"
            problem = f"is outside of 0..{nodes - 1}" if not (0 <= u < nodes and 0 <= v < nodes) else problem
            raise UsageError(f"the edge {u} {v} {problem}", where=f"{path}:{number}", hint="expected `u v` with u < v")
        if (u, v) in seen:
            raise UsageError(f"the edge {u} {v} comes twice", where=f"{path}:{number}")
        seen.add((u, v))
    wiring = Wiring(nodes, tuple(sorted(seen)))
    lost = _unreached(wiring)
    if lost is not None:
        raise UsageError(f"node {lost} is not connected to node 0", where=str(path), hint="add an edge, or drop it")
    return wiring


def _join(adjacent: list[set[int]], u: int, v: int) -> None:
    adjacent[u].add(v)
    adjacent[v].add(u)


def _unreached(wiring: Wiring) -> int | None:
    """The lowest node that no path joins to node 0, directions ignored."""
    adjacent: list[set[int]] = [set() for _ in range(wiring.nodes)]
    for u, v in wiring.edges:
        _join(adjacent, u, v)
    reached, frontier = {0}, [0]
    while frontier:
        new = adjacent[frontier.pop()] - reached
        reached |= new
        frontier.extend(new)
    return next((node for node in range(wiring.nodes) if node not in reached), None)


def _numbers(path: Path, lines: list[str], number: int, what: str, count: int = 1) -> list[int]:
    text = lines[number - 1] if number <= len(lines) else ""
    words = text.split()
    if len(words) != count or not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"{text.strip()[:40]!r} found", where=f"{path}:{number}", hint=f"expected {what}")
    return [int(word[:18]) for word in words]
