"""Whole networks, optimised as users have them optimised, compute what torch computes in float64."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from iosfarm.db import LatencyDatabase
from iosfarm.farm.driver import Driver
from iosfarm.farm.executors.inline_executor import InlineExecutor
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels import open_runtime
from iosfarm.kernels.reference import run_graph
from iosfarm.kernels.runtime import Array, Runtime, Weights
from iosfarm.search.space import SpaceSettings
from iosfarm.workers.evaluating import TOLERANCES, relative_error
from iosfarm.zoo.load import load
from iosfarm.zoo.weights import random_weights

STRATEGIES = (("concurrent",), ("merge",), ("concurrent", "merge"))

# Arguments that make a network quick to compute, and limits that make it quick to search. Schedules are searched for
# the network in its full size, where running units side by side pays, and fit the small one: its units are the same.
NETWORKS: dict[str, tuple[dict[str, object], tuple[int, int]]] = {
    "squeezenet": ({"image_size": 64}, (3, 8)),
    "inception_v3": ({"image_size": 107}, (2, 3)),
    "nasnet_large": ({"image_size": 64, "filters": 24}, (1, 3)),
    "randwire": ({"image_size": 64, "channels": 16}, (2, 2)),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LatencyDatabase]:
    """Simulated latencies: strategies of one network share most of them."""
    with LatencyDatabase(str(Path(tmp_path_factory.mktemp("numerics")) / "latency.db")) as database:
        yield database


@pytest.fixture(scope="module")
def cpu() -> Iterator[Runtime]:
    runtime = open_runtime("cpu")
    yield runtime
    runtime.close()


@cache
def example(name: str) -> tuple[Graph, Weights, list[Array], list[Array]]:
    """A network, its weights, an input, and what float64 makes of it."""
    graph = load(name, **NETWORKS[name][0])
    weights = random_weights(graph, 1)
    generator = np.random.default_rng(2)
    inputs = [generator.standard_normal(graph.shape(i.name)).astype(np.float32) for i in graph.inputs]
    return graph, weights, inputs, run_graph(graph, weights, inputs)


def search(name: str, strategies: tuple[str, ...], database: LatencyDatabase) -> dict[str, Schedule]:
    size, groups = NETWORKS[name][1]
    settings = SearchSettings(SpaceSettings(size, groups, strategies))
    executor = InlineExecutor()
    (result,) = Driver([Job(name, load(name), "sim:v100", settings)], database, executor).run()
    executor.close()
    return dict(result.schedules)


def merges(schedule: Schedule) -> int:
    return sum(stage.strategy == "merge" for stage in schedule.stages)


@pytest.mark.parametrize("strategies", STRATEGIES, ids="+".join)
@pytest.mark.parametrize("name", NETWORKS)
def test_optimised(name: str, strategies: tuple[str, ...], database: LatencyDatabase, cpu: Runtime) -> None:
    graph, weights, inputs, expected = example(name)
    schedules = search(name, strategies, database)
    schedule = schedules["optimised"]
    if "concurrent" not in strategies:
        assert all(len(stage.groups) == 1 for stage in schedule.stages if stage.strategy == "concurrent")
    if "merge" not in strategies:
        assert merges(schedule) == 0
    elif name in ("squeezenet", "inception_v3"):
        assert merges(schedule) > 0
    if strategies == ("concurrent", "merge"):
        assert len(schedule.stages) < len(schedules["sequential"].stages)
    with cpu.prepare_schedule(graph, schedule, weights) as executable:
        assert relative_error(executable.run(*inputs), expected) <= TOLERANCES["float32"]


@pytest.mark.parametrize("baseline", ["sequential", "greedy"])
@pytest.mark.parametrize("name", NETWORKS)
def test_baselines(name: str, baseline: str, database: LatencyDatabase, cpu: Runtime) -> None:
    graph, weights, inputs, expected = example(name)
    schedule = search(name, ("merge",), database)[baseline]
    with cpu.prepare_schedule(graph, schedule, weights) as executable:
        assert relative_error(executable.run(*inputs), expected) <= TOLERANCES["float32"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_numbers_are_worth_comparing(name: str) -> None:
    # A network that yields zeros, or the same for every input, would pass the tests above whatever was computed.
    graph, weights, inputs, expected = example(name)
    for output in expected:
        assert np.isfinite(output).all()
        assert np.abs(output).max() > 0
        assert np.unique(output).size > 10
    other = run_graph(graph, weights, [-array for array in inputs])
    assert relative_error(other, expected) > 100 * TOLERANCES["float32"]


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.5], [0.0], 0.5),
        ([float("nan")], [1.0], float("inf")),
        ([1.0], [float("nan")], float("inf")),
        ([float("nan")], [float("nan")], float("inf")),
        ([1.0], [float("inf")], float("inf")),
        ([1.0, 1.0], [1.0], float("inf")),
    ],
)
def test_relative_error(actual: list[float], expected: list[float], error: float) -> None:
    assert relative_error([np.array(actual, np.float32)], [np.array(expected)]) == error
