"""A compiled model among threads, processes and other models: what it holds, shares and gives back."""

from __future__ import annotations

import gc
import os
import pickle
import threading

import pytest
import torch
from compile_examples import WEIGHTS, X, close
from conformance import block, mixing, sequential

import iosfarm
from iosfarm.deploy import runtimes
from iosfarm.deploy.model import CompiledModel
from iosfarm.kernels.reference import run_graph


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
