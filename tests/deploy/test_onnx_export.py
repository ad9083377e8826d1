"""Exported ONNX models compute what the graph does, in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iosfarm.deploy import onnx_export
from iosfarm.deploy.merging import merged_graph
from iosfarm.deploy.onnx_export import KINDS, save_onnx, to_onnx
from iosfarm.farm.output_files import OutputError
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.operators import SPECS
from iosfarm.kernels.reference import run_graph
from iosfarm.kernels.runtime import Array

from conformance import block, merging, mixing  # isort: skip - of tests/kernels
from numerics_cases import CASES, Case, graph_weights, random_inputs, relative_error  # isort: skip

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(model: object, graph: Graph, inputs: list[Array]) -> list[Array]:
    """The outputs of a model, or of the file of one, in onnxruntime."""
    content = str(model) if isinstance(model, Path) else model.SerializeToString()  # type: ignore[attr-defined]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    named = {item.name: array for item, array in zip(graph.inputs, inputs, strict=True)}
    outputs: list[Array] = session.run(None, named)
    return outputs


def example(graph: Graph, seed: int = 4) -> tuple[dict[str, Array], list[Array], list[Array]]:
    """Weights, inputs and the right outputs."""
    rng = np.random.default_rng(seed)
    weights = graph_weights(graph, rng)
    inputs = random_inputs(tuple(graph.shape(item.name) for item in graph.inputs), rng)
    return weights, inputs, run_graph(graph, weights, inputs)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind != "opaque"], ids=lambda case: case.name)
def test_an_operator_as_a_model(case: Case) -> None:
    graph = case.graph()
    weights, inputs, (expected,) = example(graph)
    (output,) = run(to_onnx(graph, weights), graph, inputs)
    assert relative_error(output, expected) <= 1e-5


def test_every_operator_is_among_the_cases() -> None:
    assert set(SPECS) - {"opaque"} <= KINDS
    assert {case.kind for case in CASES} == set(SPECS)


@pytest.mark.parametrize("schedule", [merging, mixing])
def test_a_merged_network(schedule: object, tmp_path: Path) -> None:
    graph = block()
    weights, inputs, expected = example(graph)
    merged, values = merged_graph(graph, schedule(graph), weights)  # type: ignore[operator]
    model = to_onnx(merged, values)
    shapes = {info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim) for info in model.graph.value_info}
    assert all(shapes[o.name] == merged.shape(o.name) for o in merged.operators if o.name not in merged.outputs)
    assert sum(node.op_type == "Conv" for node in model.graph.node) < sum(o.kind == "conv2d" for o in graph.operators)
    assert save_onnx(model, tmp_path / "block.onnx") == [tmp_path / "block.onnx"]
    outputs = run(tmp_path / "block.onnx", graph, inputs)
    assert all(relative_error(o, e) <= 1e-5 for o, e in zip(outputs, expected, strict=True))


def test_half_precision() -> None:
    graph = block().bind(dtype="float16", batch=2)
    weights, inputs, expected = example(graph)
    outputs = run(to_onnx(graph, weights), graph, [array.astype(np.float16) for array in inputs])
    assert {output.dtype for output in outputs} == {np.dtype(np.float16)}
    assert all(relative_error(o.astype(np.float32), e) <= 1e-2 for o, e in zip(outputs, expected, strict=True))
    with pytest.raises(UsageError, match=r"no convolutions in bfloat16 before opset 22.*use float32 or float16"):
        to_onnx(graph.bind(dtype="bfloat16"), weights)


def test_outputs_that_are_inputs_or_are_there_twice() -> None:
    b = GraphBuilder("same")
    x = b.input((3, 4, 4))
    y = b.relu(x)
    graph = Graph("same", b.build(y).inputs, b.build(y).operators, [y, x, y])
    weights, inputs, expected = example(graph)
    outputs = run(to_onnx(graph, weights), graph, inputs)
    assert [np.array_equal(o, e.astype(np.float32)) for o, e in zip(outputs, expected, strict=True)] == [True] * 3


def test_weights_beyond_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 1000)
    graph = block()
    weights, inputs, expected = example(graph)
    for _ in range(2):  # the second time over the first
        written = save_onnx(to_onnx(graph, weights), tmp_path / "block.onnx")
    assert [path.name for path in written] == ["block.onnx", "block.onnx.data"]
    assert written[0].stat().st_size < written[1].stat().st_size < 2 * sum(w.nbytes for w in weights.values())
    outputs = run(written[0], graph, inputs)
    assert all(relative_error(o, e) <= 1e-5 for o, e in zip(outputs, expected, strict=True))


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    graph = block()
    with pytest.raises(OutputError, match=r"missing/block\.onnx: cannot write the model: No such file"):
        save_onnx(to_onnx(graph, example(graph)[0]), tmp_path / "missing" / "block.onnx")
