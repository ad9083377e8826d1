"""`iosfarm.compile` of modules, programs and ONNX files: called as they are, with what they return."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import iosfarm
from iosfarm.deploy.model import CompiledModel
from iosfarm.deploy.onnx_export import save_onnx, to_onnx
from iosfarm.frontends.torch import import_module
from iosfarm.ir.errors import UsageError

from conformance import block  # isort: skip - of tests/kernels
from numerics_cases import graph_weights  # isort: skip


class Result(NamedTuple):
    total: Tensor
    parts: dict[str, Tensor]


class Two(nn.Module):
    """Two images, a number that is fixed on import, and a nest of results."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, left: Tensor, right: Tensor, factor: float = 2.0) -> Result:
        a, b = self.norm(self.left(left)), self.right(right)
        return Result(a + b * factor, {"a": a, "b": b.mean((2, 3))})


LEFT, RIGHT = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("modules") / "latency.db")


@pytest.fixture(scope="module")
def module() -> Two:
    torch.manual_seed(5)
    return Two().eval()


@pytest.fixture(scope="module")
def model(module: Two, database: str) -> Iterator[CompiledModel]:
    with iosfarm.compile(module, example_inputs=(LEFT, RIGHT), database=database, budget="40 stages") as model:
        yield model


def close(actual: Any, expected: Result) -> bool:
    assert type(actual) is type(expected)
    assert actual.parts.keys() == expected.parts.keys()
    pairs = [(actual.total, expected.total), *((actual.parts[k], expected.parts[k]) for k in expected.parts)]
    return all(np.allclose(np.asarray(a), e.numpy(), rtol=1e-4, atol=1e-5) for a, e in pairs)


@torch.no_grad()
def test_it_is_called_like_the_module(module: Two, model: CompiledModel) -> None:
    expected = module(LEFT, RIGHT)
    assert close(model(LEFT, RIGHT), expected)
    assert close(model(LEFT, right=RIGHT), expected)
    assert close(model(right=RIGHT, left=LEFT), expected)
    assert close(model(LEFT.numpy(), RIGHT.numpy()), expected)
    assert isinstance(model(LEFT, RIGHT).total, Tensor)
    assert isinstance(model(LEFT.numpy(), RIGHT.numpy()).parts["b"], np.ndarray)


def test_other_arguments(model: CompiledModel) -> None:
    for arguments, named, message in [
        ((LEFT,), {}, "two: missing a required argument: 'right'; it takes (left"),
        ((LEFT, RIGHT), {"rigt": RIGHT}, "two: got an unexpected keyword argument 'rigt'; it takes (left"),
        ((LEFT, [RIGHT]), {}, "two: arguments in another arrangement than that of the example inputs; expected ·, ·"),
        ((LEFT.tolist(), RIGHT), {}, "two: arguments in another arrangement than that of the example inputs"),
        ((LEFT, RIGHT, 3.0), {}, "two: arguments in another arrangement than that of the example inputs"),
        ((LEFT, RIGHT[:, :2]), {}, "two: input 'right': the shape [2, 2, 8, 8], not [2, 3, 8, 8]"),
    ]:
        with pytest.raises(UsageError) as error:
            model(*arguments, **named)
        assert str(error.value).startswith(message)
        assert len(str(error.value)) < 300


def test_the_schedule_is_found_again_under_other_names(module: Two, model: CompiledModel, database: str) -> None:
    imported = import_module(module, (LEFT, RIGHT), name="another")
    program = torch.export.export(module, (LEFT, RIGHT))
    for other, batch in ((imported, 2), (program, None)):
        with iosfarm.compile(other, database=database, budget="1 stages", batch_size=batch) as again:
            assert again.notices[0].startswith("under the schedule ")
            with torch.no_grad():
                outputs, expected = again(LEFT, RIGHT), module(LEFT, RIGHT)
            assert torch.allclose(outputs.total, expected.total, rtol=1e-4, atol=1e-5)


def test_an_onnx_file(tmp_path: Path, database: str) -> None:
    graph = block()
    weights = graph_weights(graph, np.random.default_rng(3))
    path = tmp_path / "block.ONNX"
    save_onnx(to_onnx(graph, weights), path)
    x = np.random.default_rng(4).standard_normal((1, 8, 14, 14)).astype(np.float32)
    with (
        iosfarm.compile(path, database=database, budget="60 stages") as model,
        iosfarm.compile(graph, weights=weights, schedule=None, database=database, budget="60 stages") as same,
    ):
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(model(input_1=x), same(x), strict=True))


def test_what_cannot_be_compiled(module: Two, database: str) -> None:
    with pytest.raises(UsageError, match="Two: a torch module without example inputs; give example_inputs="):
        iosfarm.compile(module, database=database)
    with pytest.raises(UsageError, match="example inputs, but the model is no torch module; leave example_inputs out"):
        iosfarm.compile(block(), example_inputs=LEFT, database=database)
    with pytest.raises(UsageError, match=r"missing\.onnx"):
        iosfarm.compile("missing.onnx", database=database)


def test_modules_in_training_mode_are_compiled_for_evaluation(module: Two, model: CompiledModel, database: str) -> None:
    copied = Two()
    copied.load_state_dict(module.state_dict())
    copied.train()
    with iosfarm.compile(copied, example_inputs=(LEFT, RIGHT), database=database) as trained, torch.no_grad():
        assert copied.training
        assert close(trained(LEFT, RIGHT), module(LEFT, RIGHT))


def test_a_copy_of_the_database_serves_other_processes(database: str, model: CompiledModel, tmp_path: Path) -> None:
    copied = shutil.copy(database, tmp_path / "copy.db")
    with iosfarm.compile(Two(), example_inputs=(LEFT, RIGHT), database=str(copied), budget="1 stages") as again:
        assert again.notices[0].startswith("under the schedule ")
