"""The simulated V100 beside what Ding et al. (MLSys 2021) measured on a real one: right to a quarter, and in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory
from iosfarm.kernels.sim.devices import DEVICES
from iosfarm.kernels.sim.model import StageModel
from iosfarm.zoo.registry import NETWORKS

NAMES = ("inception_v3", "randwire", "nasnet_large", "squeezenet")


@pytest.fixture(scope="module")
def published(root: Path) -> dict[str, dict[str, float]]:
    """Milliseconds by network and column; skipped where the reference figures are not beside the checkout."""
    path = root.parent / "shared" / "reference" / "paper.json"
    if not path.exists():
        pytest.skip(f"no published figures at {path}")
    table = json.loads(path.read_text())["latency_ms_v100_batch1"]
    return {name: dict(zip(table["columns"], table[name], strict=True)) for name in NAMES}


def sequential(graph: Graph) -> float:
    """Milliseconds, one unit a stage."""
    factory, model = StageFactory(graph, "nhwc"), StageModel(DEVICES["v100"])
    return 1e3 * sum(model.seconds(factory.make([[u]]).stage) for u in range(len(graph.units)))


def greedy(graph: Graph) -> float:
    """Milliseconds, every ready unit at once."""
    factory, model = StageFactory(graph, "nhwc"), StageModel(DEVICES["v100"])
    done: set[int] = set()
    total = 0.0
    while len(done) < len(graph.units):
        ready = [u for u, before in enumerate(graph.unit_predecessors) if u not in done and done >= set(before)]
        total += model.seconds(factory.make([[u] for u in ready]).stage)
        done.update(ready)
    return 1e3 * total


@pytest.mark.parametrize("name", NAMES)
def test_latency(name: str, published: dict[str, dict[str, float]]) -> None:
    graph = NETWORKS[name].factory()
    assert sequential(graph) == pytest.approx(published[name]["sequential"], rel=0.25)
    assert greedy(graph) == pytest.approx(published[name]["greedy"], rel=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_which_of_the_baselines_is_faster(name: str, published: dict[str, dict[str, float]]) -> None:
    graph = NETWORKS[name].factory()
    assert (greedy(graph) < sequential(graph)) == (published[name]["greedy"] < published[name]["sequential"])
