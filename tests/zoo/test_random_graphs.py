"""Random wirings: the generator and the edge-list files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_reference import EDGE_LISTS, needs_reference

from iosfarm.ir.errors import UsageError
from iosfarm.zoo import load
from iosfarm.zoo.random_graphs import Wiring, read_edge_list, watts_strogatz


@given(st.integers(6, 40), st.sampled_from([4, 6]), st.floats(0, 1), st.integers(0, 2**32))
def test_generated_graphs(nodes: int, neighbours: int, probability: float, seed: int) -> None:
    nodes += neighbours - 4
    wiring = watts_strogatz(nodes, neighbours, probability, seed)
    assert wiring == watts_strogatz(nodes, neighbours, probability, seed)
    assert len(set(wiring.edges)) == len(wiring.edges) == nodes * neighbours // 2
    assert all(0 <= u < v < nodes for u, v in wiring.edges)
    order = wiring.depth_first()
    assert sorted(order) == list(range(nodes))
    assert all(order.index(u) < order.index(v) for u, v in wiring.edges)


def test_no_rewiring_is_the_ring() -> None:
    assert watts_strogatz(6, 2, 0.0, 0).edges == ((0, 1), (0, 5), (1, 2), (2, 3), (3, 4), (4, 5))


def test_seed_decides_the_network() -> None:
    assert load("randwire", seed=3) == load("randwire", seed=3)
    assert load("randwire", seed=3) != load("randwire", seed=4)


def test_stages_of_one_network_differ() -> None:
    edges = [watts_strogatz(32, 4, 0.75, [1, stage]).edges for stage in (1, 2, 3)]
    assert len(set(edges)) == 3


@pytest.mark.parametrize(
    ("nodes", "neighbours", "probability", "line"),
    [
        (2, 2, 0.5, "a random graph of 2 nodes; use 3 to 1024"),
        (9, 3, 0.5, "3 neighbours of 9 nodes; use an even number, 2 to 8"),
        (9, 10, 0.5, "10 neighbours of 9 nodes; use an even number, 2 to 8"),
        (9, 4, 1.5, "a rewiring probability of 1.5; use 0 to 1"),
    ],
)
def test_parameters_that_cannot_be(nodes: int, neighbours: int, probability: float, line: str) -> None:
    with pytest.raises(UsageError) as error:
        watts_strogatz(nodes, neighbours, probability, 0)
    assert str(error.value) == line


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text("4\n4\n0 1\n0 2\n1 3\n2 3\n\n")
    wiring = read_edge_list(path)
    assert wiring == Wiring(4, ((0, 1), (0, 2), (1, 3), (2, 3)))
    assert wiring.predecessors() == [[], [0], [0], [1, 2]]
    assert wiring.sinks() == [3]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ":1: '' found; expected the number of nodes"),
        ("4\n", ":2: '' found; expected the number of edges"),
        ("four\n1\n0 1\n", ":1: 'four' found; expected the number of nodes"),
        ("0\n0\n", ":1: 0 nodes; use 1 to 1024"),
        ("99999999999999999999\n0\n", ":1: 999999999999999999 nodes; use 1 to 1024"),
        ("3\n2\n0 1\n", ":2: 2 edges announced, 1 found"),
        ("3\n1\n0 1\n1 2\n", ":2: 1 edges announced, 2 found"),
        ("3\n2\n0 1\n1\n", ":4: '1' found; expected an edge `u v`"),
        ("3\n2\n0 1\n1 -2\n", ":4: '1 -2' found; expected an edge `u v`"),
        ("3\n2\n0 1\n1 1\n", ":4: the edge 1 1 joins a node to itself; expected `u v` with u < v"),
        ("3\n2\n0 1\n2 1\n", ":4: the edge 2 1 runs from the higher node to the lower; expected `u v` with u < v"),
        ("3\n2\n0 1\n1 3\n", ":4: the edge 1 3 is outside of 0..2; expected `u v` with u < v"),
        ("3\n3\n0 1\n1 2\n0 1\n", ":5: the edge 0 1 comes twice"),
        ("4\n2\n0 1\n1 2\n", ": node 3 is not connected to node 0; add an edge, or drop it"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_edge_list(path)
    assert str(error.value) == f"{path}{line}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read this edge list: No such file"):
        read_edge_list(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="cannot read this edge list: Is a directory"):
        read_edge_list(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text file"):
        read_edge_list(tmp_path / "binary")


@needs_reference
def test_reference_files() -> None:
    assert [(w.nodes, len(w.edges)) for w in map(read_edge_list, EDGE_LISTS)] == [
        (16, 32),
        (32, 64),
        (32, 64),
        (32, 64),
    ]
