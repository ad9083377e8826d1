"""Exported torch modules compute what the graph does, have its weights, and can be exported on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from iosfarm.deploy.merging import merged_graph
from iosfarm.deploy.torch_export import KINDS, save_program, to_module
from iosfarm.farm.output_files import OutputError
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.operators import SPECS
from iosfarm.kernels.reference import run_graph

from conformance import block, merging  # isort: skip - of tests/kernels
from numerics_cases import CASES, Case, graph_weights, random_inputs, relative_error  # isort: skip - of tests/kernels


@pytest.mark.parametrize("case", [case for case in CASES if case.kind in KINDS], ids=lambda case: case.name)
def test_an_operator_as_a_module(case: Case) -> None:
    graph, rng = case.graph(), np.random.default_rng(5)
    weights = graph_weights(graph, rng)
    inputs = random_inputs(tuple(graph.shape(item.name) for item in graph.inputs), rng)
    with torch.inference_mode():
        output = to_module(graph, weights)(*map(torch.from_numpy, inputs))
    (expected,) = run_graph(graph, weights, inputs)
    assert relative_error(output.numpy(), expected) <= 1e-5


def test_every_operator_is_among_the_cases() -> None:
    assert set(SPECS) <= KINDS | {"opaque"}
    assert {case.kind for case in CASES} == set(SPECS)


def test_a_merged_network_is_written_and_read_back(tmp_path: Path) -> None:
    graph, rng = block(), np.random.default_rng(2)
    weights = graph_weights(graph, rng)
    inputs = random_inputs(tuple(graph.shape(item.name) for item in graph.inputs), rng)
    expected = run_graph(graph, weights, inputs)
    merged, values = merged_graph(graph, merging(graph), weights)
    save_program(merged, values, tmp_path / "block.pt2")
    program = torch.export.load(tmp_path / "block.pt2")
    convolutions = [node for node in program.graph.nodes if str(node.target).startswith("aten.conv2d")]
    assert len(convolutions) == sum(o.kind == "conv2d" for o in graph.operators) - 2
    with torch.inference_mode():
        outputs = program.module()(*map(torch.from_numpy, inputs))
    assert [relative_error(o.numpy(), e) <= 1e-5 for o, e in zip(outputs, expected, strict=True)] == [True, True]


def test_a_module_is_an_ordinary_one() -> None:
    graph = block()
    weights = graph_weights(graph, np.random.default_rng(2))
    module = to_module(graph, weights)
    assert not module.training
    state = module.state_dict()
    assert {name: value.shape for name, value in state.items()} == {n: w.shape for n, w in weights.items()}
    changed = {name: value * 2 for name, value in state.items()}
    module.load_state_dict(changed)
    assert torch.equal(module.stem.weight, torch.from_numpy(weights["stem.weight"]) * 2)
    assert np.shares_memory(module.stem.bias.detach().numpy(), weights["stem.bias"]) is False


def test_names_that_are_no_identifiers() -> None:
    b = GraphBuilder("3 x 3")
    x = b.input((4, 5, 5), name="input.0")
    one, two = b.conv2d(x, 4, 1, name="a.b"), b.conv2d(x, 4, 1, name="a/b")
    graph = b.build(b.conv2d(b.add(one, two), 4, 1, name="class"))
    weights = graph_weights(graph, np.random.default_rng(0))
    x_values = np.random.default_rng(1).standard_normal((1, 4, 5, 5)).astype(np.float32)
    (expected,) = run_graph(graph, weights, [x_values])
    with torch.inference_mode():
        assert relative_error(to_module(graph, weights)(torch.from_numpy(x_values)).numpy(), expected) <= 1e-6


def test_half_precision() -> None:
    graph = block().bind(dtype="bfloat16")
    module = to_module(graph, graph_weights(graph, np.random.default_rng(0)))
    assert {value.dtype for value in module.state_dict().values()} == {torch.bfloat16}
    assert module(torch.zeros(1, 8, 14, 14, dtype=torch.bfloat16))[0].dtype == torch.bfloat16


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    graph = block()
    with pytest.raises(OutputError, match=r"missing/block\.pt2: cannot write the program: No such file"):
        save_program(graph, graph_weights(graph, np.random.default_rng(0)), tmp_path / "missing" / "block.pt2")
