"""Cutting graphs into parts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.search.chains import chain_decomposition, width
from iosfarm.search.parts import Part, cut

from search_graphs import SHAPE, graph_of, parallel, predecessors, sparse_edges  # isort: skip - beside this file
from search_reference import figures, needs_reference, network, parts  # isort: skip


def check(graph: Graph, found: list[Part], most: int) -> None:
    """Every unit in one part, no part too large, nothing before what it needs."""
    order = [unit for part in found for unit in part.units]
    assert sorted(order) == list(range(len(graph.units)))
    assert all(1 <= len(part.units) <= most for part in found)
    assert [part.index for part in found] == list(range(len(found)))
    done: set[int] = set()
    for unit in order:
        assert done.issuperset(graph.unit_predecessors[unit])
        done.add(unit)


def sizes(graph: Graph, most: int = 64) -> list[int]:
    found = cut(graph, max_part_size=most)
    check(graph, found, most)
    return [len(part.units) for part in found]


@needs_reference
@pytest.mark.parametrize("name", ["squeezenet", "inception_v3", "nasnet_large"])
def test_parts_of_the_paper_s_networks(name: str) -> None:
    expected = [(n, chains) for n, chains in figures("counts")["parts"][name]]
    found = [(len(part.units), chain_decomposition(part)) for part in parts(name)]
    assert [row for row in found if len(row[1]) > 1] == [row for row in expected if len(row[1]) > 1]
    assert sum(n for n, _ in found) == sum(n for n, _ in expected)


@needs_reference
def test_parts_of_randwire() -> None:
    """Its decompositions depend on how equally long chains are told apart; what does not is compared."""
    expected = [(n, chains) for n, chains in figures("counts")["parts"]["randwire"] if len(chains) > 1]
    found = [part for part in parts("randwire") if width(part) > 1]
    for part, (n, chains) in zip(found, expected, strict=True):
        assert len(part.units) == n
        assert chain_decomposition(part)[0] == chains[0]
        assert width(part) <= len(chains)
    assert sum(len(part.units) for part in parts("randwire")) == figures("paper")["table2"]["randwire"]


@needs_reference
@pytest.mark.parametrize("name", ["squeezenet", "inception_v3", "nasnet_large", "randwire"])
@pytest.mark.parametrize("most", [1, 2, 5, 10, 17, 33])
def test_paper_s_networks_in_smaller_parts(name: str, most: int) -> None:
    sizes(network(name), most)


@settings(max_examples=200, deadline=None)
@given(sparse_edges(), st.integers(1, 64))
def test_any_graph(dag: tuple[int, set[tuple[int, int]]], most: int) -> None:
    sizes(graph_of(*dag), most)


@settings(max_examples=50, deadline=None)
@given(predecessors(24), st.integers(1, 64))
def test_any_dense_graph(before: list[int], most: int) -> None:
    edges = {(p, u) for u, word in enumerate(before) for p in range(u) if word >> p & 1}
    sizes(graph_of(len(before), edges), most)


def test_chain() -> None:
    chain = {(i, i + 1) for i in range(149)}
    assert sizes(graph_of(150, chain)) == [50, 50, 50]
    assert sizes(graph_of(150, chain), 1) == [1] * 150


def test_runs_join_and_blocks_stay_apart() -> None:
    """Fork and join are at single-tensor points; what lies between is one part, what lies before and after a run."""
    b = GraphBuilder("block between runs")
    x = b.relu(b.relu(b.input(SHAPE)))
    x = b.add(b.relu(x), b.conv2d(x, 4, 1))
    x = b.add(b.relu(x), b.conv2d(x, 4, 1))
    assert sizes(b.build(b.relu(b.relu(x)))) == [2, 3, 3, 2]


def test_lone_exit_belongs_to_its_block() -> None:
    """Branches that end in one unit, and a sum of that one alone after them, as in some random graphs."""
    b = GraphBuilder("lone exit")
    x = b.relu(b.input(SHAPE))
    x = b.add(b.relu(x), b.conv2d(x, 4, 1))
    graph = b.build(b.relu(b.add(x)))
    assert sizes(graph) == [1, 4, 1]
    assert sizes(graph, 3) == [1, 3, 2]  # where there is room for it


def test_towers_of_two_inputs_are_one_part() -> None:
    b = GraphBuilder("two inputs")
    left, right = b.input(SHAPE), b.input(SHAPE)
    for _ in range(5):
        left, right = b.relu(left), b.relu(right)
    assert sizes(b.build(b.relu(b.add(left, right)))) == [11, 1]


def test_an_input_that_is_read_late() -> None:
    """Before the add two tensors cross, one of them an input of the graph."""
    b = GraphBuilder("late input")
    x, late = b.input(SHAPE), b.input(SHAPE)
    x = b.relu(b.relu(x))
    assert sizes(b.build(b.relu(b.add(x, late)))) == [3, 1]


def test_heads_of_equal_length_are_one_part() -> None:
    """Neither head is a side branch of the other: cut apart they could never run side by side."""
    b = GraphBuilder("two heads")
    left = right = b.relu(b.input(SHAPE))
    for _ in range(10):
        left, right = b.conv2d(left, 4, 1), b.conv2d(right, 4, 1)
    assert sizes(b.build(left, right)) == [1, 20]


def test_side_branch_stays_with_the_blocks_it_runs_beside() -> None:
    """An auxiliary head does not keep the trunk from being cut once the head has ended."""
    b = GraphBuilder("auxiliary head")
    x = b.relu(b.input(SHAPE))
    for block in range(5):
        x = b.add(*(b.conv2d(b.conv2d(x, 4, 1), 4, 1) for _ in range(3)))
        if block == 1:
            side = x
            for _ in range(4):
                side = b.relu(side)
    # A block is three levels deep; the head of four ends in the second block after its fork.
    assert sizes(b.build(x, side)) == [1, 7, 7, 18, 7]


def test_skips_over_two_cells_are_cut_after_the_cells() -> None:
    """As in NasNet: every cell reads the two before it, so nothing is a single-tensor point."""
    b = GraphBuilder("skips")
    before = x = b.relu(b.input(SHAPE))
    for _ in range(14):
        before, x = x, b.add(b.relu(x), b.conv2d(before, 4, 1), b.conv2d(x, 4, 1), b.conv2d(x, 4, 3, padding=1))
    graph = b.build(x)
    assert sizes(graph) == [1] + [10] * 7  # a cell of five is below an eighth of what a part may have
    ends = [graph.units[part.units[-1]].operators[0] for part in cut(graph)[1:]]
    assert all(graph.operator(end).kind == "add" for end in ends)


def small_world(count: int, seed: int) -> set[tuple[int, int]]:
    """After Watts and Strogatz: a ring with four neighbours each, three quarters of the edges sent elsewhere."""
    rng = random.Random(seed)
    edges = set()
    for node in range(count):
        for step in (1, 2):
            other = rng.randrange(count) if rng.random() < 0.75 else (node + step) % count
            if other != node:
                edges.add((min(node, other), max(node, other)))
    return edges


def grid(rows: int, columns: int) -> set[tuple[int, int]]:
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    right = {(i * columns + j - 1, i * columns + j) for i, j in cells if j}
    return right | {((i - 1) * columns + j, i * columns + j) for i, j in cells if i}


@pytest.mark.parametrize("most", [1, 7, 64])
@pytest.mark.parametrize("edges", [small_world(320, 1), grid(20, 16)], ids=["small world", "grid"])
def test_blocks_that_are_too_large(edges: set[tuple[int, int]], most: int) -> None:
    found = sizes(graph_of(320, edges), most)
    assert len(found) <= 5 * -(-320 // most)  # not crumbs


@pytest.mark.parametrize("most", [0, -1, 257])
def test_part_sizes_that_cannot_be(most: int) -> None:
    with pytest.raises(UsageError, match=f"max_part_size is {most}"):
        cut(parallel([1, 1]), max_part_size=most)


@settings(max_examples=100, deadline=None)
@given(predecessors(8))
def test_width_is_the_largest_antichain(before: list[int]) -> None:
    """Dilworth's theorem against all subsets."""
    count = len(before)
    graph = graph_of(count, {(p, u) for u in range(count) for p in range(u) if before[u] >> p & 1})
    part = Part(graph, 0, tuple(range(count)))
    above: list[int] = []
    for word in part.predecessors():
        above.append(word)
        for p in range(len(above) - 1):
            if word >> p & 1:
                above[-1] |= above[p]
    free = [s for s in range(1 << count) if all(not above[u] & s for u in range(count) if s >> u & 1)]
    assert width(part) == max(s.bit_count() for s in free)
    chains = chain_decomposition(part)
    assert sum(chains) == count
    assert chains == sorted(chains, reverse=True)
    assert len(chains) >= width(part)


def test_chains_reach_over_units_that_are_gone() -> None:
    """6 waits for 2 through 3, which is in the longest chain, 0-1-3-4-5."""
    graph = graph_of(7, {(0, 1), (1, 3), (2, 3), (3, 4), (4, 5), (3, 6)})
    part = Part(graph, 0, tuple(range(7)))
    assert width(part) == 2
    assert chain_decomposition(part) == [5, 2]
