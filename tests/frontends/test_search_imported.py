"""Networks never seen before, from the module or the file to a schedule that runs and computes the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import iosfarm
from iosfarm.cli.main import run
from iosfarm.farm.api import run_jobs
from iosfarm.farm.jobs.job import Job
from iosfarm.farm.zoo_jobs import zoo_jobs
from iosfarm.frontends.torch import import_module
from iosfarm.kernels import open_runtime
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut
from iosfarm.zoo.zoo_file import ZooError, load_zoo

from imported_networks import NETWORKS, conv, perturbed  # isort: skip - beside this file


@pytest.mark.parametrize("name", ["dense", "excitation", "split_attention", "multi_scale", "windows", "two_inputs"])
def test_searched_on_a_simulated_gpu_and_run_on_the_cpu(name: str) -> None:
    make, shapes = NETWORKS[name]
    torch.manual_seed(6)
    module = perturbed(make())
    imported = import_module(module, [torch.zeros(1, *shape) for shape in shapes])
    schedule = iosfarm.search(imported.graph, device="sim:v100", gap=0.1, batch_size=2, weights=imported.weights)
    graph = imported.graph.bind(batch=2)
    inputs = [torch.randn(2, *shape) for shape in shapes]
    with torch.inference_mode():
        expected = [leaf for leaf in pytree.tree_leaves(module(*(x.clone() for x in inputs))) if leaf is not None]
    runtime = open_runtime("cpu")
    try:
        with runtime.prepare_schedule(graph, schedule, imported.weights) as executable:
            ours = executable.run(*(x.numpy() for x in inputs))
    finally:
        runtime.close()
    places = [place for place in imported.signature.outputs if isinstance(place, int)]
    for place, theirs in zip(places, expected, strict=True):
        np.testing.assert_allclose(ours[place], theirs.numpy(), rtol=1e-3, atol=1e-4)


def test_a_residual_network_has_little_to_gain() -> None:
    """Its parts are chains with a side step: the search is over after a handful of stages."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(conv(8, 8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.body(x))

    module = perturbed(nn.Sequential(conv(3, 8), *(Block() for _ in range(8))))
    imported = import_module(module, torch.zeros(1, 3, 16, 16))
    (saved,) = run_jobs([Job("residual", imported.graph, "sim:v100", weights=imported.weights)], executor="inline")
    assert saved.result.counts.stages < 40
    assert max(len(stage.groups) for stage in saved.result.schedules["optimised"].stages) == 1
    runtime = open_runtime("sim:v100")
    layout = runtime.layout
    runtime.close()
    assert len(sequential(imported.graph, cut(imported.graph), layout).stages) == len(imported.graph.units)


# -- zoo.yaml ----------------------------------------------------------------------------------------------------------

CODE = """
from torch import nn

def tiny(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())

def ranked():
    class Ranked(nn.Module):
        def forward(self, x):
            return x.flatten(1).topk(3)[0]
    return Ranked()
"""

ZOO = """defaults:
  devices: ["sim:v100"]
models:
  - torch: zoo_networks:tiny
    arguments: {width: 6}
    inputs: [[3, 12, 12]]
    batch_sizes: [1, 2]
  - torch: zoo_networks:ranked
    inputs: [[3, 4, 4]]
  - onnx: net.onnx
    bindings: {height: 8}
    label: from_onnx
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    (tmp_path / "zoo_networks.py").write_text(CODE)
    (tmp_path / "zoo.yaml").write_text(ZOO)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [info("x", TensorProto.FLOAT, ["n", 3, "height", 5])],
        [info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    (tmp_path / "net.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx.__version__
    return tmp_path


def test_entries(folder: Path) -> None:
    jobs = zoo_jobs(folder / "zoo.yaml")
    assert [(job.label, job.graph.batch, job.graph.inputs[0].shape) for job in jobs] == [
        ("tiny", 1, (3, 12, 12)), ("tiny", 2, (3, 12, 12)), ("ranked", 1, (3, 4, 4)), ("from_onnx", 1, (3, 8, 5)),
    ]  # fmt: skip
    assert jobs[0].weights is jobs[1].weights, "a network is made once"
    assert jobs[0].weights is not None
    assert set(jobs[0].weights) == {"0.weight", "0.bias"}
    assert [bool(job.notices) for job in jobs] == [False, False, True, False]


def test_search_from_the_command_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert run(["search", "--models", "zoo.yaml", "--executor", "inline", "--out", "s", "--json"]) == 0
    capsys.readouterr()
    document = json.loads((folder / "s" / "ranked-sim-v100-b1-float32.json").read_text())
    assert any("aten.topk" in note and "runs whole" in note for note in document["notes"])
    assert "opaque" in {operator["kind"] for operator in document["graph"]["operators"]}


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("torch: zoo_networks", "2: torch: 'zoo_networks' is no factory; write package.module:factory"),
        ("{onnx: none.onnx}", "2: onnx: there is no file"),
        ("{name: sample, inputs: [[3]]}", "2: only pt2, torch, torchvision, timm take inputs"),
        ("{onnx: net.onnx, arguments: {a: 1}}", "2: only name, torch, torchvision, timm take arguments"),
        ("{timm: test_vit, bindings: {h: 3}}", "2: only onnx takes bindings"),
        ("{torch: 'a:b', timm: c}", "2: torch and timm are given; give one of name, graph, onnx, pt2, torch"),
        ("{torch: 'a:b', inputs: [[0, 3]]}", "2: models[0].inputs[0][0] is 0; expected at least 1"),
    ],
)
def test_mistakes(folder: Path, entry: str, line: str) -> None:
    path = folder / "zoo.yaml"
    path.write_text(f"models:\n  - {entry}\n")
    with pytest.raises(ZooError) as error:
        load_zoo(path)
    assert f"{path}:{line}" in str(error.value)


def test_strict(folder: Path) -> None:
    path = folder / "zoo.yaml"
    path.write_text("models:\n  - {torch: 'zoo_networks:ranked', inputs: [[3, 4, 4]], strict: true}\n")
    with pytest.raises(iosfarm.IosfarmError, match=r"aten\.topk has no counterpart"):
        zoo_jobs(path)
