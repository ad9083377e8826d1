"""Figures that need no device: Tables 1 and 2, the trend, the bound on transitions, and sizes of parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.reproduce.random_network import random_network
from iosfarm.reproduce.result import Column, Draft, Kind
from iosfarm.reproduce.tables import UNPRUNED, paper_network, space_size, table1, table2
from iosfarm.search.chains import width
from iosfarm.search.parts import Part, cut
from iosfarm.search.space import SpaceSettings, part_space
from iosfarm.zoo import load

YEARS = {
    "alexnet": 2012,
    "vgg16": 2014,
    "googlenet": 2014,
    "inception_v3": 2015,
    "resnet50": 2015,
    "squeezenet": 2016,
    "nasnet_large": 2017,
    "randwire": 2019,
}
"""When each was published."""

PEAKS = {
    "Tesla K20X": (2012, 3.95e12),
    "Tesla K40": (2013, 4.29e12),
    "Tesla M40": (2015, 6.84e12),
    "Tesla P100": (2016, 10.6e12),
    "Tesla V100": (2017, 15.7e12),
    "A100": (2020, 19.5e12),
    "H100": (2022, 67e12),
}
"""Year and float32 peak without tensor cores, FLOP/s: NVIDIA's data sheets (SXM modules from P100 on)."""

CHAINS = ((2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (4, 3), (2, 4), (3, 4))
"""Length and number of the chains whose transitions are counted."""

TABLE_1_COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="units", heading="n"),
    Column(key="paper_units", heading="paper n", paper=True),
    Column(key="width", heading="d"),
    Column(key="paper_width", heading="paper d", paper=True),
    Column(key="bound", heading="bound"),
    Column(key="paper_bound", heading="paper bound", paper=True),
    Column(key="transitions", heading="transitions"),
    Column(key="paper_transitions", heading="paper transitions", paper=True),
    Column(key="schedules", heading="schedules"),
    Column(key="paper_schedules", heading="paper schedules", paper=True),
    Column(key="match", heading="match", kind=Kind.TEXT),
)


def largest_blocks(draft: Draft, randwire_graphs: Path | None) -> None:
    """Size of the search space of each network's largest block, without pruning."""
    for row in table1(randwire_graphs):
        paper = {f"paper_{name}": value for name, value in asdict(row.paper).items()}
        draft.add(network=row.network, **asdict(row.ours), **paper, match=row.match)
        if row.note:
            draft.note(f"{row.network}: {row.note}")


TABLE_2_COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="units", heading="units"),
    Column(key="paper_units", heading="paper units", paper=True),
    Column(key="match", heading="match", kind=Kind.TEXT),
)


def units(draft: Draft) -> None:
    """What the scheduler places: the paper's operators."""
    for row in table2():
        draft.add(network=row.network, units=row.ours, paper_units=row.paper, match=row.match)


TREND_COLUMNS = (
    Column(key="year", heading="year"),
    Column(key="name", heading="network or GPU", kind=Kind.TEXT),
    Column(key="convolutions", heading="convolutions"),
    Column(key="mean_mflop", heading="mean MFLOP of one"),
    Column(key="peak_tflops", heading="peak TFLOP/s"),
)


def trend(draft: Draft) -> None:
    """More and smaller operators in each network, on ever faster devices."""
    rows: list[dict[str, int | float | str]] = []
    for name, year in YEARS.items():
        count, work = _convolutions(paper_network(name) if name == "nasnet_large" else load(name))
        rows.append({"year": year, "name": name, "convolutions": count, "mean_mflop": work / count / 1e6})
    for name, (year, peak) in PEAKS.items():
        rows.append({"year": year, "name": name, "peak_tflops": peak / 1e12})
    for row in sorted(rows, key=lambda row: int(row["year"])):
        draft.add(**row)
    draft.note("peaks: float32 without tensor cores, NVIDIA's data sheets; a multiplication and an addition are 2 FLOP")


def _convolutions(graph: Graph) -> tuple[int, int]:
    found = [operator for operator in graph.operators if operator.kind == "conv2d"]
    return len(found), sum(graph.flops(operator) for operator in found)


COMPLEXITY_COLUMNS = (
    Column(key="chains", heading="chains d"),
    Column(key="length", heading="units in each"),
    Column(key="units", heading="n"),
    Column(key="states", heading="states"),
    Column(key="transitions", heading="transitions"),
    Column(key="bound", heading="bound", paper=True),
    Column(key="tight", heading="tight", kind=Kind.TEXT),
)


def complexity(draft: Draft) -> None:
    """d chains of equal length side by side: the graph for which the bound C(n/d + 2, 2)^d is reached.

    The bound counts the empty ending of each state, too, and the empty state; our transitions do not.
    """
    for length, count in CHAINS:
        graph = _side_by_side(length, count)
        part = Part(graph, 0, tuple(range(length * count)))
        space = part_space(part, UNPRUNED)
        size = space_size(part, space)
        states = len(space.states) + 1
        draft.add(
            chains=count,
            length=length,
            units=size.units,
            states=states,
            transitions=size.transitions,
            bound=size.bound,
            tight=size.transitions + states == size.bound,
        )
    draft.note("tight: transitions and states together, which is with each state's empty ending, are the bound")


PART_SIZES = (30, 40, 45, 50, 55)
PART_SPACE = SpaceSettings(max_group_size=1, max_groups=20)
"""As the paper's repository counts it: single units, up to 20 side by side."""

PART_SIZES_COLUMNS = (
    Column(key="size", heading="units in a part at most"),
    Column(key="parts", heading="parts"),
    Column(key="width", heading="largest width"),
    Column(key="states", heading="states"),
    Column(key="transitions", heading="transitions"),
    Column(key="largest", heading="transitions of the largest"),
)


def part_sizes(draft: Draft) -> None:
    """How the search space of the random network of 320 units depends on the size of its parts."""
    graph = random_network()
    for size in PART_SIZES:
        parts = cut(graph, max_part_size=size)
        spaces = [part_space(part, PART_SPACE) for part in parts]
        transitions = [len(space.stage_of) for space in spaces]
        draft.add(
            size=size,
            parts=len(parts),
            width=max(map(width, parts)),
            states=sum(len(space.states) for space in spaces),
            transitions=sum(transitions),
            largest=max(transitions),
        )
    draft.note(
        "groups of one unit, up to 20 of them; larger parts are not always harder: where they are cut counts, too"
    )


def _side_by_side(length: int, count: int) -> Graph:
    b = GraphBuilder("chains")
    x = b.input((8, 8, 8), name="input")
    ends = []
    for _ in range(count):
        y = x
        for _ in range(length):
            y = b.conv2d(y, 8, 1)
        ends.append(y)
    return b.build(*ends)
