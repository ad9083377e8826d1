"""Tables 1 and 2 of the IOS paper, counted on the zoo's networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.reproduce.paper import BOUND_DIGITS, SCHEDULES_DIGITS, TABLE_1, TABLE_2, SpaceSize
from iosfarm.search.chains import width
from iosfarm.search.parts import Part, cut
from iosfarm.search.space import SpaceSettings, StateSpace, part_space
from iosfarm.zoo import load

UNPRUNED = SpaceSettings(None, None, ("concurrent",), "paper")
"""What Table 1 counts: concurrent stages only, the paper's endings, no limit on groups."""

OWN_WIRING = "wired by the zoo's own generator; the paper's figures are of its own random graphs (--randwire-graphs)"
IOS_WIRING = "wired as the paper counted it, which is not quite NASNet-A (the zoo's argument wiring: ios)"


@dataclass(frozen=True)
class SpaceRow:
    """A row of Table 1; note says what has to be known to compare it."""

    network: str
    ours: SpaceSize
    paper: SpaceSize
    note: str = ""

    @property
    def match(self) -> bool:
        """Equal; bounds and schedules as far as the paper's figures have digits."""
        ours, paper = self.ours, self.paper
        exact = (ours.units, ours.width, ours.transitions) == (paper.units, paper.width, paper.transitions)
        return (
            exact
            and _rounded(ours.bound, BOUND_DIGITS) == paper.bound
            and _rounded(ours.schedules, SCHEDULES_DIGITS) == paper.schedules
        )


@dataclass(frozen=True)
class UnitsRow:
    """A row of Table 2."""

    network: str
    ours: int
    paper: int

    @property
    def match(self) -> bool:
        """Equal."""
        return self.ours == self.paper


def table1(randwire_graphs: Path | None = None) -> list[SpaceRow]:
    """The largest block of each network: the one with most transitions.

    randwire_graphs: a folder with the edge lists (*.txt, in name order) of RandWire's four graphs; None is the zoo's
    own generator, whose graphs are others than the paper's.

    Raises:
        UsageError: there is no such folder, or its edge lists are not RandWire's.
    """
    rows = []
    for network, paper in TABLE_1.items():
        note = IOS_WIRING if network == "nasnet_large" else ""
        if network == "randwire" and randwire_graphs is None:
            note = OWN_WIRING
        rows.append(SpaceRow(network, largest_block(cut(paper_network(network, randwire_graphs))), paper, note))
    return rows


def table2() -> list[UnitsRow]:
    """Units of each network."""
    return [UnitsRow(network, len(paper_network(network).units), paper) for network, paper in TABLE_2.items()]


def paper_network(name: str, randwire_graphs: Path | None = None) -> Graph:
    """A network as the paper's figures were counted on it."""
    if name == "nasnet_large":
        return load(name, wiring="ios")
    if name == "randwire" and randwire_graphs is not None:
        if not randwire_graphs.is_dir():
            raise UsageError("no such folder", where=str(randwire_graphs), hint="give a folder of edge lists, *.txt")
        return load(name, edge_lists=[str(path) for path in sorted(randwire_graphs.glob("*.txt"))])
    return load(name)


def largest_block(parts: Sequence[Part]) -> SpaceSize:
    """Size of the part with most transitions; parts that are wired alike are counted once."""
    alike = {tuple(part.predecessors()): part for part in parts}
    spaces = [(part, part_space(part, UNPRUNED)) for part in alike.values()]
    return space_size(*max(spaces, key=lambda pair: len(pair[1].stage_of)))


def space_size(part: Part, space: StateSpace) -> SpaceSize:
    """The figures of Table 1 for one part."""
    n, d = len(part.units), width(part)
    return SpaceSize(n, d, transition_bound(n, d), len(space.stage_of), space.schedule_count())


def transition_bound(units: int, width: int) -> float:
    """C(n/d + 2, 2)^d: the paper's bound on the transitions of n units of width d."""
    each = units / width + 2
    return float((each * (each - 1) / 2) ** width)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
