"""`iosfarm.compile`: right numbers, the same kind out as in, any thread, and one line for what does not fit."""

from __future__ import annotations

import gc
import json
import pickle
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import iosfarm
from iosfarm.db import LatencyDatabase
from iosfarm.deploy import runtimes
from iosfarm.deploy.model import CompiledModel
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.kernels.reference import run_graph
from iosfarm.kernels.runtime import Array

from conformance import SCHEDULES, block, mixing, sequential  # isort: skip - of tests/kernels
from ir_strategies import renamed  # isort: skip - of tests/ir
from numerics_cases import graph_weights, relative_error  # isort: skip

WEIGHTS = graph_weights(block(), np.random.default_rng(3))
X = np.random.default_rng(4).standard_normal((1, 8, 14, 14)).astype(np.float32)
EXPECTED = run_graph(block(), WEIGHTS, [X])


@pytest.fixture(scope="module")
def model() -> Iterator[CompiledModel]:
    with iosfarm.compile(block(), mixing(block()), device="cpu", weights=WEIGHTS) as model:
        yield model


def close(outputs: object, expected: list[Array] = EXPECTED, tolerance: float = 1e-5) -> bool:
    assert isinstance(outputs, tuple)
    assert len(outputs) == len(expected)
    return all(relative_error(np.asarray(o), e) <= tolerance for o, e in zip(outputs, expected, strict=True))


# -- what comes out --------------------------------------------------------------------------------------------------


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


# -- threads, memory, life -------------------------------------------------------------------------------------------


def test_many_threads_call_two_models(model: CompiledModel) -> None:
    """Each thread gets the answers to its own questions."""
    inputs = [X * (n + 1) for n in range(6)]
    expected = [run_graph(block(), WEIGHTS, [x]) for x in inputs]
    wrong: list[int] = []
    with iosfarm.compile(block(), sequential(block()), weights=WEIGHTS) as other:

        def ask(number: int) -> None:
            for turn in range(20):
                asked = other if (turn + number) % 2 else model
                given = inputs[number] if turn % 3 else torch.from_numpy(inputs[number])
                if not close(asked(given), expected[number]):
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(inputs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert close(model(X))


def test_models_share_the_threads_of_a_device() -> None:
    with iosfarm.compile(block(), mixing(block()), weights=WEIGHTS):
        before = threading.active_count()
        with iosfarm.compile(block(), mixing(block()), weights=WEIGHTS):
            assert threading.active_count() == before
        assert threading.active_count() == before


def test_the_last_model_of_a_device_closes_it() -> None:
    before = threading.active_count()
    model = iosfarm.compile(block(), mixing(block()), device="cpu", weights=WEIGHTS)
    users = runtimes._shared["cpu"].users
    model.close()
    model.close()
    assert users == 1 + (runtimes._shared["cpu"].users if "cpu" in runtimes._shared else 0)
    assert threading.active_count() <= before


def test_a_dropped_model_gives_its_memory_back(model: CompiledModel) -> None:
    users = runtimes._shared["cpu"].users
    dropped = iosfarm.compile(block(), mixing(block()), device="cpu", weights=WEIGHTS)
    executable = dropped._executable
    assert executable is not None
    del dropped
    gc.collect()
    assert runtimes._shared["cpu"].users == users
    with pytest.raises(RuntimeError, match="closed"):
        executable.run()
    assert close(model(X))


def test_nothing_grows_from_call_to_call(model: CompiledModel) -> None:
    x = torch.from_numpy(X)
    model(x)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        model(x)
    gc.collect()
    assert len(gc.get_objects()) <= before + 20


def test_a_closed_model() -> None:
    model = iosfarm.compile(block(), mixing(block()), weights=WEIGHTS)
    model.close()
    for use in (lambda: model(X), lambda: model.run(X), lambda: model.time(1), model.trace):
        with pytest.raises(RuntimeError, match="this model is closed"):
            use()


def test_it_cannot_be_pickled(model: CompiledModel) -> None:
    with pytest.raises(TypeError, match="cannot pickle a compiled model"):
        pickle.dumps(model)


def test_after_a_fork(model: CompiledModel) -> None:
    import os

    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - in another process
        try:
            model(X)
            os.write(writing, b"ran")
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, "rb") as answer:
        assert answer.read() == b"this model was compiled before the process forked; compile it in the child"


# -- what does not fit -----------------------------------------------------------------------------------------------

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


# -- where schedules come from ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a schedule of `block` for the CPU, from a search of a few stages."""
    path = tmp_path_factory.mktemp("searched") / "latency.db"
    iosfarm.search(block(), device="cpu", database=str(path), budget="60 stages")
    return path


@pytest.fixture
def database(searched: Path, tmp_path: Path) -> str:
    """A copy of that for one test."""
    return shutil.copy(searched, tmp_path / "latency.db").as_posix()


def rows(database: str) -> int:
    with LatencyDatabase(database, readonly=True) as memory:
        return len(memory.schedules())


def test_the_schedule_of_the_database_is_taken(database: str) -> None:
    with iosfarm.compile(block(), database=database, weights=WEIGHTS) as model:
        assert close(model(X))
        with LatencyDatabase(database, readonly=True) as memory:
            (row,) = memory.schedules()
        assert [stage.key for stage in model.schedule.stages] == [stage.stage_key for stage in row.stages]
        assert model.notices[0].startswith("under the schedule ")
    assert rows(database) == 1
    # The same network under other names, and its units in another order.
    other, _ = renamed(block(), 5)
    with pytest.warns(UserWarning, match="random weights"), iosfarm.compile(other, database=database) as model:
        assert sorted(s.key for s in model.schedule.stages) == sorted(stage.stage_key for stage in row.stages)
    assert rows(database) == 1


def test_without_one_it_is_searched_for_and_kept(database: str) -> None:
    batch = np.concatenate([X, X])
    with iosfarm.compile(block(), database=database, weights=WEIGHTS, batch_size=2, budget="60 stages") as model:
        assert close(model(batch), run_graph(block().bind(batch=2), WEIGHTS, [batch]))
        assert model.notices == ("no schedule was in the database; one was searched for",)
    assert rows(database) == 2


def test_a_schedule_file(database: str, tmp_path: Path) -> None:
    with LatencyDatabase(database, readonly=True) as memory:
        (row,) = memory.schedules()
    path = tmp_path / "schedule.json"
    path.write_text(row.document)
    with iosfarm.compile(block(), path, weights=WEIGHTS) as model:
        assert close(model(X))
        assert model.schedule == load(path)[0].schedule()
        assert model.notices == ()
    with pytest.raises(UsageError, match="batch_size 4, but the schedule is for 1; leave one of them out"):
        iosfarm.compile(block(), path, weights=WEIGHTS, batch_size=4)
    with pytest.raises(UsageError, match="made for block, which is another network than this squeezenet; search again"):
        iosfarm.compile(iosfarm.load("squeezenet"), str(path), weights=WEIGHTS)
    document = json.loads(row.document)
    document["device"]["model"] = "Another"
    path.write_text(json.dumps(document))
    with iosfarm.compile(block(), path, weights=WEIGHTS) as model:
        assert "was searched on Another and runs on" in model.notices[0]
