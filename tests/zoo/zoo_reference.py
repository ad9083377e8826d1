"""The reference figures beside the checkout, and counting in their terms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from iosfarm.ir.graph import Graph
from iosfarm.search.parts import Part

FOLDER = Path(__file__).parents[3] / "shared" / "reference"

needs_reference = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the reference figures are not here: {FOLDER} is missing"
)

EDGE_LISTS = [
    FOLDER / "randwire" / f"ws-{name}.txt" for name in ("16-4-0.75-2", "32-4-0.75-3", "32-4-0.75-4", "32-4-0.75-5")
]


def reference(name: str) -> Any:
    """counts.json or paper.json."""
    return json.loads((FOLDER / name).read_text())


def regions(graph: Graph, sizes: Sequence[int]) -> list[Part]:
    """Consecutive units in pieces of the given sizes: a network is built block by block."""
    assert sum(sizes) == len(graph.units)
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [
        Part(graph, i, tuple(range(end - size, end))) for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def decompositions(predecessors: Sequence[int]) -> list[list[int]]:
    """Greedy longest-chain decompositions of the order that the edges generate, one for each way to break ties.

    Which of several longest chains goes first changes the chains after it, and the reference does not say.
    """
    count = len(predecessors)
    above: list[set[int]] = []
    for mask in predecessors:
        direct = {p for p in range(count) if mask >> p & 1}
        above.append(direct.union(*(above[p] for p in direct)))
    return [_greedy(above, first, second) for first in (1, -1) for second in (1, -1)]


def _greedy(above: Sequence[set[int]], end_sign: int, inner_sign: int) -> list[int]:
    left = set(range(len(above)))
    lengths = []
    while left:
        length: dict[int, int] = {}
        before: dict[int, int | None] = {}
        for unit in sorted(left):
            options = [p for p in above[unit] if p in left]
            before[unit] = max(options, key=lambda p: (length[p], inner_sign * p), default=None)
            length[unit] = 1 + max((length[p] for p in options), default=0)
        end: int | None = max(left, key=lambda unit: (length[unit], end_sign * unit))
        lengths.append(max(length.values()))
        while end is not None:
            left.discard(end)
            end = before[end]
    return lengths
