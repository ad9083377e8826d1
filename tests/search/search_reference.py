"""The paper's figures, where the checkout has them beside it, and the graphs that they were counted on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from iosfarm.ir.graph import Graph
from iosfarm.search.parts import Part, cut
from iosfarm.zoo import load

FOLDER = Path(__file__).parents[3] / "shared" / "reference"

needs_reference = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the reference figures are not at {FOLDER}")


@cache
def figures(name: str) -> Any:
    """A JSON file of the reference; an empty object where there is none, for use in parametrisations."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


@cache
def network(name: str) -> Graph:
    """A zoo network with the wiring that the figures were counted on."""
    if name == "randwire":
        return load(name, edge_lists=[str(path) for path in sorted((FOLDER / "randwire").glob("*.txt"))])
    return load(name, wiring="ios") if name == "nasnet_large" else load(name)


@cache
def parts(name: str) -> tuple[Part, ...]:
    """The parts of `network(name)`."""
    return tuple(cut(network(name)))
