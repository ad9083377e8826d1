"""Substitutions compute the same, each of them and all together, and the search finds what pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iosfarm import compare
from iosfarm.compare.rows import Status
from iosfarm.compare.settings import Settings
from iosfarm.farm.measured_costs import MeasuredCosts
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.stage import Stage
from iosfarm.kernels.reference import run_graph
from iosfarm.search.substitutions import convolutions, moving, substitute
from iosfarm.search.substitutions.searching import RULES
from iosfarm.workers.evaluating import relative_error
from iosfarm.zoo.load import load
from iosfarm.zoo.weights import random_weights

EXACT = 1e-6
"""Sums of float32 weights are rounded once."""

Weights = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]


def difference(before: Graph, weights: Mapping[str, object], after: Graph, changed: Mapping[str, object]) -> float:
    random = np.random.default_rng(1)
    inputs = [random.standard_normal(before.shape(item.name)) for item in before.inputs]
    expected = run_graph(before, weights, inputs)  # type: ignore[arg-type]
    assert [after.shape(name) for name in after.outputs] == [before.shape(name) for name in before.outputs]
    return relative_error(run_graph(after, changed, inputs), expected)  # type: ignore[arg-type]


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Convolutions, concats, slices, sums, pools and activations of one size, wired at random; many fit some rule."""
    b = GraphBuilder("random")
    values = [b.input((draw(st.integers(2, 4)), 6, 6))]
    for _ in range(draw(st.integers(2, 9))):
        x = draw(st.sampled_from(values))
        others = [v for v in values if b.channels(v) == b.channels(x)]
        kind = draw(st.sampled_from(["conv", "conv", "conv", "concat", "slice", "add", "pool", "relu", "unit"]))
        if kind == "conv":
            k = draw(st.sampled_from([(1, 1), (3, 3), (1, 3), (3, 1)]))
            values.append(
                b.conv2d(
                    x, draw(st.integers(2, 3)), k, padding=(k[0] // 2, k[1] // 2), bias=draw(st.booleans()),
                    activation=draw(st.sampled_from(["none", "none", "relu"])),
                )
            )  # fmt: skip
        elif kind == "concat":
            values.append(b.concat(*draw(st.lists(st.sampled_from(values), min_size=2, max_size=3))))
        elif kind == "slice" and b.channels(x) > 1:
            at = draw(st.integers(1, b.channels(x) - 1))
            values += b.split(x, [at, b.channels(x) - at])
        elif kind == "add":
            values.append(b.add(x, draw(st.sampled_from(others)), activation=draw(st.sampled_from(["none", "relu"]))))
        elif kind == "pool":
            values.append(b.max_pool(x, 3, stride=1, padding=1))
        elif kind == "unit":
            with b.unit():
                values.append(b.conv2d(b.relu(x), 2, 1))
        else:
            values.append(b.relu(x))
    leaves = [v for v in values[1:] if draw(st.booleans())] or values[-1:]
    return b.build(*leaves, b.concat(*leaves))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_every_substitution_computes_the_same(graph: Graph) -> None:
    weights = random_weights(graph)
    for rule in RULES:
        for rewrite in rule(graph):
            changed: Weights = dict(weights)
            rewrite.transform(changed)
            assert rewrite.graph.content_hash != graph.content_hash
            assert difference(graph, weights, rewrite.graph, changed) < EXACT, rewrite.rule
            assert list(rewrite.graph.outputs) == list(graph.outputs)


def made_up(stages: Mapping[str, Stage]) -> dict[str, float]:
    """A launch each, and time by the work and by what is written."""
    return {
        key: 1e-5 + stage.summary.flops * 1e-10 + sum(np.prod(u.operators[-1].shape) for u in stage.units) * 1e-9
        for key, stage in stages.items()
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.sampled_from([1.0, 1.05, 1.5]))
def test_the_search_computes_the_same_and_never_costs_more(graph: Graph, alpha: float) -> None:
    weights = random_weights(graph)
    found = substitute(graph, weights, made_up, layout="nchw", alpha=alpha, steps=20)
    assert difference(graph, weights, found.graph, found.weights) < EXACT
    assert found.after <= found.before
    again = substitute(found.graph, found.weights, made_up, layout="nchw", steps=0)
    assert again.before == pytest.approx(found.after)
    assert set(found.weights) == {f"{o.name}.{p}" for o in found.graph.operators for p in found.graph.parameters(o)}


CASES: dict[str, tuple[Callable[[GraphBuilder, str], str], Callable[..., object], list[str]]] = {
    "merge": (
        lambda b, x: b.concat(b.conv2d(x, 2, 3, padding=1), b.conv2d(x, 3, 3, padding=1, bias=False)),
        convolutions.merge, ["conv2d", "slice", "slice", "concat"],
    ),
    "enlarge": (
        lambda b, x: b.concat(b.conv2d(x, 2, 1), b.conv2d(x, 3, 3, padding=1)),
        convolutions.enlarge, ["conv2d", "conv2d", "concat"],
    ),
    "sum inside": (
        lambda b, x: b.add(b.conv2d(x, 2, 3, padding=1), b.conv2d(b.relu(x), 2, 3, padding=1), activation="relu"),
        convolutions.sum_inside, ["relu", "concat", "conv2d"],
    ),
    "sum inside, one tensor": (
        lambda b, x: b.add(b.conv2d(x, 2, 3, padding=1), b.conv2d(x, 2, 3, padding=1)),
        convolutions.sum_inside, ["conv2d"],
    ),
    "join slices": (
        lambda b, x: b.concat(*b.split(x, [1, 2, 1])), moving.join_slices, ["slice", "slice", "concat"],
    ),
    "slice of slice": (
        lambda b, x: b.slice(b.slice(x, 1, 4), 1, 2), moving.slice_of_slice, ["slice"],
    ),
    "slice of concat": (
        lambda b, x: b.relu(b.slice(b.concat(x, b.tanh(x) if hasattr(b, "tanh") else b.relu(x)), 4, 8)),
        moving.slice_of_concat, ["relu", "relu"],
    ),
    "concat of concat": (
        lambda b, x: b.concat(b.concat(x, x), b.relu(x)), moving.concat_of_concat, ["relu", "concat"],
    ),
    "concat first": (
        lambda b, x: b.concat(b.max_pool(x, 3), b.max_pool(b.relu(x), 3)), moving.concat_first,
        ["relu", "concat", "max_pool"],
    ),
    "concat last": (
        lambda b, x: b.relu(b.concat(x, b.max_pool(x, 3, stride=1, padding=1))), moving.concat_last,
        ["max_pool", "relu", "relu", "concat"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_rule_does_what_its_name_says(name: str) -> None:
    build, rule, kinds = CASES[name]
    b = GraphBuilder("case")
    graph = b.build(build(b, b.input((4, 7, 7))))
    weights = random_weights(graph)
    rewrite = next(iter(rule(graph)))  # type: ignore[call-overload]
    changed: Weights = dict(weights)
    rewrite.transform(changed)
    assert sorted(operator.kind for operator in rewrite.graph.operators) == sorted(kinds)
    assert difference(graph, weights, rewrite.graph, changed) < EXACT


def branches() -> Graph:
    b = GraphBuilder("branches")
    x = b.input((8, 14, 14))
    return b.build(b.concat(b.conv2d(x, 8, 1, activation="relu"), b.conv2d(x, 8, 3, padding=1, activation="relu")))


def by_launches(stages: Mapping[str, Stage]) -> dict[str, float]:
    """Every operator but a slice costs the same, larger kernels a little more."""
    return {
        key: 0.1
        if "slice" in stage.describe()
        else 1.0 + 0.01 * max(u.operators[-1].attributes.get("kernel", (1,))[0] for u in stage.units)  # type: ignore[index,misc]
        for key, stage in stages.items()
    }


def test_backtracking_passes_a_step_that_costs() -> None:
    graph = branches()
    weights = random_weights(graph)
    found = substitute(graph, weights, by_launches, layout="nchw", alpha=1.05)
    # Enlarging costs 0.02, and only then merging saves a convolution, and joining the slices the rest.
    assert [operator.kind for operator in found.graph.operators] == ["conv2d"]
    assert dict(found.rules) == {"enlarge": 1, "merge": 1, "join slices": 1}
    assert difference(graph, weights, found.graph, found.weights) < EXACT
    stuck = substitute(graph, weights, by_launches, layout="nchw", alpha=1.0)
    assert stuck.graph == graph


def test_a_stop_leaves_the_graph_as_it_is() -> None:
    graph = branches()
    found = substitute(graph, random_weights(graph), by_launches, layout="nchw", stop=lambda: True)
    assert (found.graph.content_hash, found.before) == (graph.content_hash, found.after)


def test_on_simulated_costs_a_network_gets_cheaper_and_stays_itself(tmp_path: Path) -> None:
    graph = load("squeezenet")
    weights = random_weights(graph)
    costs = MeasuredCosts("sim:v100?noise=0", str(tmp_path / "latency.db"))
    found = substitute(graph, weights, costs, layout=costs.layout, steps=10)
    assert found.after < found.before
    assert found.rules
    assert difference(graph, weights, found.graph, found.weights) < EXACT


def test_the_row_stands_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    (row,) = compare.run(branches(), ["taso_style"], "cpu", settings=Settings(seconds=0.05, rounds=1))
    assert (row.status, row.reason) == (Status.OK, "")
    assert row.error is not None
    assert row.error < 1e-5
    assert row.note
