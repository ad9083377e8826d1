"""Which units can run beside others, and what is said of networks where few can."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given

from iosfarm.search.beside import little_to_win, units_beside
from iosfarm.search.parts import cut
from iosfarm.zoo.load import load

from search_graphs import predecessors  # isort: skip - beside this file


@given(predecessors())
def test_units_beside_are_those_with_an_incomparable_one(direct: Sequence[int]) -> None:
    count = len(direct)
    path = [[bool(direct[later] >> early & 1) for later in range(count)] for early in range(count)]
    for middle in range(count):
        for early in range(count):
            for later in range(count):
                path[early][later] |= path[early][middle] and path[middle][later]
    wanted = [
        unit
        for unit in range(count)
        if any(other != unit and not path[unit][other] and not path[other][unit] for other in range(count))
    ]
    assert units_beside(direct) == wanted


@pytest.mark.parametrize(
    ("network", "what"),
    [
        ("vgg16", "no unit of this network"),
        ("resnet50", "little to win: 16 of 71 "),
        ("inception_v3", ""),
        ("squeezenet", ""),
    ],
)
def test_what_is_said_of_networks(network: str, what: str) -> None:
    said = little_to_win(cut(load(network)))
    assert said.startswith(what) if what else said == ""
