"""`iosfarm.compile`: right numbers, the same kind out as in, and one line for what does not fit."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from compile_examples import WEIGHTS, X, close
from conformance import SCHEDULES, block, mixing, sequential

import iosfarm
from iosfarm.deploy.model import CompiledModel
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.kernels.reference import run_graph


@pytest.mark.parametrize("name", SCHEDULES)
def test_numbers_under_every_kind_of_schedule(name: str) -> None:
    with iosfarm.compile(block(), SCHEDULES[name](block()), weights=WEIGHTS) as model:
        assert close(model(X))


def test_numpy_in_numpy_out(model: CompiledModel) -> None:
    outputs = model(X)
    assert close(outputs)
    assert {type(o) for o in outputs} == {np.ndarray}
    assert {o.dtype for o in outputs} == {np.dtype(np.float32)}


def test_torch_in_torch_out(model: CompiledModel) -> None:
    outputs = model(torch.from_numpy(X))
    assert close(outputs)
    assert {type(o) for o in outputs} == {torch.Tensor}
    assert all(o.is_contiguous() and not o.is_inference() for o in outputs)
    # Ordinary tensors: what comes after may be trained.
    head = torch.nn.Linear(10, 2)
    head(outputs[0]).sum().backward()
    assert head.weight.grad is not None


def test_the_memory_format_of_images_is_that_of_the_inputs(model: CompiledModel) -> None:
    outputs = model(torch.from_numpy(X).contiguous(memory_format=torch.channels_last))
    assert close(outputs)
    assert outputs[1].is_contiguous(memory_format=torch.channels_last)
    assert not outputs[1].is_contiguous()


@pytest.mark.parametrize("seen", ["transposed", "flipped", "every second", "read-only", "under no_grad"])
def test_inputs_in_any_arrangement(model: CompiledModel, seen: str) -> None:
    if seen == "transposed":
        assert close(model(np.ascontiguousarray(X.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)))
    elif seen == "flipped":
        assert close(model(np.ascontiguousarray(X[..., ::-1])[..., ::-1]))
    elif seen == "every second":
        wide = torch.zeros(1, 8, 14, 28)
        wide[..., ::2] = torch.from_numpy(X)
        assert close(model(wide[..., ::2]))
    elif seen == "read-only":
        array = X.copy()
        array.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert close(model(array))
    else:
        with torch.no_grad():
            assert close(model(torch.from_numpy(X).requires_grad_()))


def test_inputs_are_read_and_outputs_are_the_callers(model: CompiledModel) -> None:
    x = torch.from_numpy(X.copy()).contiguous(memory_format=torch.channels_last)
    first = model(x)
    kept = [o.clone() for o in first]
    assert torch.equal(x, torch.from_numpy(X))
    for output in first:
        output.zero_()
    second = model(x)
    model(torch.zeros_like(x))
    assert all(torch.equal(a, b) for a, b in zip(second, kept, strict=True))


def test_an_input_that_is_an_output_is_copied() -> None:
    b = GraphBuilder("same")
    x = b.input((3, 4, 4), name="x")
    graph = b.build(b.relu(x))
    graph = Graph("same", graph.inputs, graph.operators, [*graph.outputs, "x"])
    with iosfarm.compile(graph, sequential(graph), weights={}) as model:
        given = torch.randn(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)
        _, same = model(given)
        assert torch.equal(same, given)
        assert same.data_ptr() != given.data_ptr()


def test_several_inputs_by_position_and_by_name() -> None:
    b = GraphBuilder("two")
    left, right = b.input((3, 4, 4), name="left"), b.input((3, 1, 1), name="right")
    graph = b.build(b.mul(left, right))
    one, two = np.full((1, 3, 4, 4), 2, np.float32), np.full((1, 3, 1, 1), 5, np.float32)
    with iosfarm.compile(graph, sequential(graph), weights={}) as model:
        outputs = [model(one, two), model(one, right=two), model(right=two, left=one)]
        assert all(isinstance(o, np.ndarray) and (o == 10).all() for o in outputs)
        for arguments, named, message in [
            ((one, two, one), {}, "two: 3 inputs; it takes left, right"),
            ((one,), {}, "two: the input 'right' is missing; it takes left, right"),
            ((one,), {"rihgt": two}, "two: an unknown input 'rihgt'; it takes left, right"),
            ((one,), {"left": two}, "two: twice the input 'left'; it takes left, right"),
            ((one, torch.from_numpy(two)), {}, "two: NumPy arrays and torch tensors together; pass all"),
        ]:
            with pytest.raises(UsageError) as error:
                model(*arguments, **named)
            assert str(error.value).startswith(message)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-2), ("bfloat16", 5e-2)])
def test_half_precision(dtype: str, tolerance: float) -> None:
    with iosfarm.compile(block(), mixing(block()), weights=WEIGHTS, dtype=dtype) as model:
        tensors = model(torch.from_numpy(X).to(getattr(torch, dtype)))
        assert {o.dtype for o in tensors} == {getattr(torch, dtype)}
        assert close(tuple(o.float() for o in tensors), tolerance=tolerance)
        array = np.dtype("float16" if dtype == "float16" else "float32")
        arrays = model(X.astype(array))
        assert {o.dtype for o in arrays} == {array}
        assert close(arrays, tolerance=tolerance)


def test_another_batch_size() -> None:
    batch = np.concatenate([X, X * 2, X * 3])
    with iosfarm.compile(block(), mixing(block()), weights=WEIGHTS, batch_size=3) as model:
        assert close(model(batch), run_graph(block().bind(batch=3), WEIGHTS, [batch]))


def test_a_simulated_device_computes_too() -> None:
    with iosfarm.compile(block(), mixing(block()), device="sim:v100", weights=WEIGHTS) as model:
        assert close(model(X))
        assert close(model(torch.from_numpy(X)))
        with pytest.raises(UsageError, match="cannot be traced; trace on the device cpu"):
            model.trace()


BAD_INPUTS = [
    ((), "the input 'input_1' is missing; it takes input_1"),
    ((X, X), "2 inputs; it takes input_1"),
    ((X[0],), "the shape [8, 14, 14], not [1, 8, 14, 14]"),
    ((X[:, :, :7],), "the shape [1, 8, 7, 14], not [1, 8, 14, 14]"),
    ((np.concatenate([X, X]),), "the shape [2, 8, 14, 14], not [1, 8, 14, 14]; compile with batch_size=2"),
    ((X[:0],), "the shape [0, 8, 14, 14], not [1, 8, 14, 14]"),
    ((X.astype(np.float64),), "the dtype float64, not float32; convert it with .astype()"),
    ((X.astype(">f4"),), "the dtype >f4, not float32"),
    ((torch.zeros(1, 8, 14, 14).half(),), "the dtype torch.float16, not torch.float32"),
    ((torch.zeros(1, 8, 14, 14).to_sparse(),), "a tensor in the layout torch.sparse_coo"),
    ((torch.zeros(1, 8, 14, 14, device="meta"),), "a tensor on meta; pass a dense tensor on the CPU"),
    ((torch.zeros(1, 8, 14, 14).requires_grad_(),), "it requires a gradient; this is inference"),
    ((X.tolist(),), "a list; pass a NumPy array or a torch tensor"),
    ((None,), "a NoneType; pass a NumPy array or a torch tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), BAD_INPUTS)
def test_inputs_that_do_not_fit(model: CompiledModel, given: tuple[object, ...], message: str) -> None:
    where = "block: input 'input_1': " if len(given) == 1 else "block: "
    with pytest.raises(UsageError) as error:
        model(*given)
    assert str(error.value).startswith(where + message)
    assert close(model(X))


def test_a_schedule_of_another_graph() -> None:
    squeezenet = iosfarm.load("squeezenet")
    with pytest.raises(UsageError, match="stage 0: block has no unit 'conv2d_1'; is this another graph"):
        iosfarm.compile(block(), sequential(squeezenet), weights=WEIGHTS)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    lacking = {name: values for name, values in WEIGHTS.items() if name != "deep.weight"}
    with pytest.raises(UsageError, match=r"the weight deep\.weight is missing"):
        iosfarm.compile(block(), mixing(block()), weights=lacking)
    with pytest.raises(UsageError, match=r"the weight stem\.bias has the shape \[3\], not \[16\]"):
        iosfarm.compile(block(), mixing(block()), weights={**WEIGHTS, "stem.bias": np.zeros(3, np.float32)})
    (tmp_path / "weights").write_text("no weights")
    with pytest.raises(UsageError, match="not a safetensors file"):
        iosfarm.compile(block(), mixing(block()), weights=tmp_path / "weights")


def test_other_wrong_arguments() -> None:
    for arguments, message in [
        ({"device": "gpu9"}, "unknown device 'gpu9'"),
        ({"batch_size": 0}, "batch size 0"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"schedule": "missing.json"}, "missing.json: cannot read the schedule: No such file"),
    ]:
        given = {"weights": WEIGHTS, "schedule": mixing(block()), **arguments}
        with pytest.raises(UsageError) as error:
            iosfarm.compile(block(), **given)
        assert message in str(error.value)
    with pytest.raises(UsageError, match="unknown model 'blocj'"):
        iosfarm.compile("blocj")


def test_random_weights_are_said() -> None:
    with pytest.warns(UserWarning, match="block is compiled with random weights: give it some with weights="):
        iosfarm.compile(block(), mixing(block())).close()
