"""Operators that are kept whole: executed from data, safely; told apart by their keys; timed and scheduled."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import iosfarm
from iosfarm.frontends.torch import import_module
from iosfarm.ir.errors import GraphError, Infeasible
from iosfarm.ir.graph import Graph, GraphInput, Operator
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.stage import Stage
from iosfarm.kernels import open_runtime
from iosfarm.kernels.opaque import bind_program, decoded, encoded
from iosfarm.kernels.reference import run_graph
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.parts import cut

from imported_networks import IMAGE, OPAQUE, perturbed  # isort: skip - beside this file

PROGRAM = {
    "flops": 24,
    "inputs": [[{"batch": 1}, 6]],
    "parameters": [[6]],
    "nodes": [
        ["aten.cumsum.default", [{"input": 0}, 1], {}],
        ["aten.mul.Tensor", [{"node": 0}, {"parameter": 0}], {}],
    ],
    "output": {"node": 1},
    "shape": [{"batch": 1}, 6],
}


def stage(program: dict[str, object], batch: int = 1) -> Stage:
    operator = Operator("op", "opaque", ("x",), {"program": json.dumps(program)})
    return canonical_stage(Graph("g", [GraphInput("x", (6,))], [operator], ["op"], batch=batch), [[0]]).stage


def changed(**fields: object) -> dict[str, object]:
    return {**PROGRAM, **fields}


def node(kind: str, *arguments: object, **keywords: object) -> list[object]:
    return [kind, list(arguments), keywords]


@pytest.mark.parametrize(
    "program",
    [
        changed(nodes=[PROGRAM["nodes"][0], node("aten.div.Tensor", {"node": 0}, {"parameter": 0})]),  # type: ignore[index]
        changed(nodes=[node("aten.cumsum.default", {"input": 0}, 0), PROGRAM["nodes"][1]]),  # type: ignore[index]
        changed(output={"node": 0}),
        changed(flops=25),
    ],
)
def test_keys_tell_programs_apart(program: dict[str, object]) -> None:
    keys = {stage(PROGRAM).key, stage(program).key, stage(PROGRAM, batch=2).key}
    assert len(keys) == 3
    assert Stage.from_json(stage(program).canonical) == stage(program)


@pytest.mark.parametrize("name", OPAQUE)
def test_they_run_on_the_cpu_and_are_scheduled(name: str) -> None:
    """A stage with random weights, whole schedules with the real ones, a search on a simulated GPU."""
    torch.manual_seed(5)
    imported = import_module(perturbed(OPAQUE[name][0]()), torch.zeros(1, *IMAGE))
    graph = imported.graph.bind(batch=2)
    inputs = [np.random.default_rng(1).standard_normal((2, *IMAGE)).astype(np.float32)]
    expected = run_graph(graph, imported.weights, inputs)
    runtime = open_runtime("cpu")
    try:
        for number, unit in enumerate(graph.units):
            if any(graph.operator(o).kind == "opaque" for o in unit.operators):
                with runtime.prepare(canonical_stage(graph, [[number]]).stage) as executable:
                    assert min(executable.time(2)) > 0
        parts = cut(graph)
        for schedule in (sequential(graph, parts, runtime.layout), greedy(graph, parts, runtime.layout)):
            with runtime.prepare_schedule(graph, schedule, imported.weights) as executable:
                for ours, theirs in zip(executable.run(*inputs), expected, strict=True):
                    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    finally:
        runtime.close()
    schedule = iosfarm.search(imported.graph, device="sim:v100", gap=0.2, weights=imported.weights)
    placed = {u for s in schedule.stages for group in s.groups for u in group}
    assert placed == {unit.name for unit in imported.graph.units}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (node("aten.from_file.default", "/etc/passwd"), "not allowed"),
        (node("aten.add_.Tensor", {"input": 0}, {"input": 0}), "not allowed"),
        (node("aten.rand_like.default", {"input": 0}), "not allowed"),
        (node("aten.bernoulli.default", {"input": 0}), "not allowed"),
        (node("aten.as_strided.default", {"input": 0}, [99], [1]), "not allowed"),
        (node("prims.sin.default", {"input": 0}), "not allowed"),
        (node("os.system.default", "true"), "not allowed"),
        (node("aten.no_such_thing.default", {"input": 0}), "no operator"),
        (node("aten.save.default", {"input": 0}, "none"), "computes no tensor"),
        (node("aten.manual_seed.default", 3), "computes no tensor"),
        (node("aten.empty_like.default", {"input": 0}), "is not allowed"),
        (node("aten.einsum.default", "__import__('os')", [{"input": 0}]), "is not allowed"),
        (node("aten.sum.dim_IntList", {"input": 0}, [7]), "torch cannot run"),
        (node("aten.sum.dim_IntList", {"input": 0}, [1]), "makes"),
        (node("aten.relu.default", {"what": 0}), "means nothing"),
        (node("aten.add.Tensor", {"input": 0}, {"tensor": {"dtype": "object", "shape": [1], "data": ""}}), "constant"),
        (
            node("aten.add.Tensor", {"input": 0}, {"tensor": {"dtype": "bool", "shape": [2**40], "data": ""}}),
            "constant",
        ),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_programs_that_nobody_vouches_for(item: list[object], words: str) -> None:
    text = json.dumps(changed(nodes=[item], output={"node": 0}, parameters=[]))
    with pytest.raises((GraphError, Infeasible), match=words):
        bind_program(text, {})(torch.zeros(2, 6))


def test_a_stage_that_cannot_run_is_infeasible_at_once() -> None:
    bad = changed(nodes=[node("aten.sum.dim_IntList", {"input": 0}, [7])], output={"node": 0}, parameters=[])
    runtime = open_runtime("cpu")
    try:
        with pytest.raises(Infeasible, match="torch cannot run"):
            runtime.prepare(stage(bad))
    finally:
        runtime.close()


@settings(max_examples=50, deadline=None)
@given(
    dtype=st.sampled_from(["int64", "int32", "bool", "float32", "float64", "uint8"]),
    shape=st.lists(st.integers(0, 4), max_size=3),
    seed=st.integers(0, 99),
)
def test_constants_come_back(dtype: str, shape: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    tensor = torch.from_numpy(values)
    document = json.loads(json.dumps(encoded(tensor)))
    assert torch.equal(decoded(document), tensor)
    assert decoded(document).dtype == tensor.dtype
