"""Sizes of the search space against figures that were counted elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iosfarm.search.chains import chain_decomposition, width
from iosfarm.search.space import SpaceSettings, part_space

from search_reference import figures, needs_reference, parts  # isort: skip - beside this file

LIMITS: dict[str, tuple[int | None, int | None]] = {"unlimited": (None, None), "r3_s8": (3, 8)}


def rows() -> Iterator[Any]:
    for endings in ("complete", "paper"):
        for limits in LIMITS:
            for name, counted in figures("counts").get(endings, {}).get(limits, {}).items():
                for row in counted:
                    chains = "-".join(map(str, row["chains"]))
                    yield pytest.param(endings, limits, name, row, id=f"{endings}-{limits}-{name}-{chains}")


@needs_reference
@pytest.mark.parametrize(("endings", "limits", "name", "row"), list(rows()))
def test_size_of_a_part(endings: str, limits: str, name: str, row: dict[str, Any]) -> None:
    r, s = LIMITS[limits]
    settings = SpaceSettings(r, s, ("concurrent",), endings)
    spaces = [part_space(part, settings) for part in parts(name) if chain_decomposition(part) == row["chains"]]
    assert spaces, "no part falls into these chains"
    for space in spaces:
        assert len(space.states) == row["states"]
        assert len(space.stage_of) == row["transitions"]
        assert float(f"{space.schedule_count():.3g}") == float(f"{row['schedules']:.3g}")
        if "stages" in row:
            assert space.stage_count == row["stages"]


@needs_reference
@pytest.mark.parametrize("name", figures("paper").get("table1", {}).keys() - {"what"})
def test_table_1(name: str) -> None:
    row = figures("paper")["table1"][name]
    settings = SpaceSettings(None, None, ("concurrent",), "paper")
    found = []
    for part in parts(name):
        if (len(part.units), width(part)) == (row["n"], row["d"]) and chain_decomposition(part) == row["chains"]:
            space = part_space(part, settings)
            found.append((len(space.stage_of), float(f"{space.schedule_count():.4g}")))
    assert found
    assert set(found) == {(row["transitions"], row["schedules"])}
