"""Files of `torch.export.save`: read as data, and the same network as the module that was exported."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export, save

import iosfarm
from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.torch import import_archive, import_module
from iosfarm.zoo.zoo_file import load_zoo

from imported_networks import IMAGE, NETWORKS, largest_error, perturbed  # isort: skip - beside this file

BATCH = Dim("batch", max=4096)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_graph_as_the_module(tmp_path: Path, name: str) -> None:
    """With a dynamic batch nothing is lost: names, operators and weights are those of the module itself."""
    make, shapes = NETWORKS[name]
    torch.manual_seed(5)
    module = perturbed(make())
    given = tuple(torch.zeros(2, *shape) for shape in shapes)
    names = list(inspect.signature(module.forward).parameters)[: len(given)]
    save(export(module, given, dynamic_shapes={n: {0: BATCH} for n in names}, strict=False), tmp_path / "saved.pt2")
    found = import_archive(tmp_path / "saved.pt2", name=name)
    own = import_module(module, given, name=name)
    assert [operator.kind for operator in found.graph.operators] == [o.kind for o in own.graph.operators]
    assert [o.name for o in found.graph.inputs] == [o.name for o in own.graph.inputs]
    assert largest_error(found, module, shapes, 3) <= 1e-5


@pytest.mark.parametrize("decomposed", [False, True])
def test_fixed_batch(tmp_path: Path, decomposed: bool) -> None:
    """The graph has the file's batch, and says that it was made for it."""
    make, shapes = NETWORKS["shuffled"]
    module = perturbed(make())
    program = export(module, (torch.zeros(2, *shapes[0]),), strict=False)
    save(program.run_decompositions() if decomposed else program, tmp_path / "fixed.pt2")
    found = import_archive(tmp_path / "fixed.pt2")
    assert found.graph.batch == 2
    assert "it was exported for a batch of 2 alone" in found.notices[0]
    assert largest_error(found, module, shapes, 2) <= 1e-5


def test_dynamic_sizes_are_given_or_refused(tmp_path: Path) -> None:
    module = perturbed(NETWORKS["fire"][0]())
    sizes = ({0: BATCH, 2: Dim("height"), 3: Dim("width")},)
    save(export(module, (torch.zeros(4, *IMAGE),), dynamic_shapes=sizes, strict=False), tmp_path / "any.pt2")
    with pytest.raises(CannotImport, match=r"any\.pt2: axis 2 of the input 'x' is dynamic; give example inputs"):
        import_archive(tmp_path / "any.pt2")
    found = import_archive(tmp_path / "any.pt2", torch.zeros(1, 3, 12, 20))
    assert found.graph.inputs[0].shape == (3, 12, 20)
    with pytest.raises(
        CannotImport, match=r"the input x is \[batch, 3, any, any\] in the file, and \[1, 4, 12, 20\] here"
    ):
        import_archive(tmp_path / "any.pt2", torch.zeros(1, 4, 12, 20))
    with pytest.raises(CannotImport, match="2 example inputs for a program of 1"):
        import_archive(tmp_path / "any.pt2", [torch.zeros(1, 3, 12, 20)] * 2)


class Everything(nn.Module):
    """What programs have besides operators: constants, blocks without gradients, changes in place, sizes, nests."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.two = torch.full((1,), 2.0)

    def forward(self, x: Tensor, offset: None = None, *, gate: dict[str, Tensor]) -> Any:
        with torch.no_grad():
            scale = self.scale * self.two
        y = self.norm(self.conv(x)).relu_() * scale
        y += gate["by"].mean((2, 3), keepdim=True)
        left, right = torch.split(y, 4, 1)
        y = torch.cat([right, left], 1)
        y = nn.functional.pad(nn.functional.interpolate(y, scale_factor=2.0), (1, 1, 0, 0), mode="reflect")
        rows = y.view(x.shape[0], 8, y.shape[2] * y.shape[3] // 2, 2).amax(3)
        return OrderedDict(y=y, rows=[rows, (x.shape[0], None)])


def test_called_as_the_module(tmp_path: Path) -> None:
    """`iosfarm.compile` on a file takes the module's arguments and returns its nest."""
    torch.manual_seed(0)
    module, x, gate = perturbed(Everything()), torch.randn(2, *IMAGE), {"by": torch.randn(2, 8, 4, 4)}
    save(export(module, (x, None), {"gate": gate}, strict=False), tmp_path / "nest.pt2")
    fast = iosfarm.compile(tmp_path / "nest.pt2", device="cpu", budget="100 stages", database=str(tmp_path / "l.db"))
    found, expected = fast(x, None, gate=gate), module(x, None, gate=gate)
    fast.close()
    assert isinstance(found, OrderedDict)
    assert list(found) == ["y", "rows"]
    assert torch.allclose(found["y"], expected["y"], rtol=1e-4, atol=1e-5)
    assert torch.allclose(found["rows"][0], expected["rows"][0], rtol=1e-4, atol=1e-5)
    assert found["rows"][1] == (2, None)


def test_in_a_zoo(tmp_path: Path) -> None:
    module = perturbed(NETWORKS["fire"][0]())
    sizes = ({0: BATCH, 2: Dim("height"), 3: Dim("width")},)
    save(export(module, (torch.zeros(4, *IMAGE),), dynamic_shapes=sizes, strict=False), tmp_path / "net.pt2")
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text("models:\n  - pt2: net.pt2\n    inputs: [[3, 12, 20]]\n    batch_sizes: [1, 4]\n    strict: true\n")
    jobs = load_zoo(zoo).jobs()
    assert [(job.label, job.batch) for job in jobs] == [("net", 1), ("net", 4)]
    assert jobs[1].load().shape("x") == (4, 3, 12, 20)
    weights = jobs[0].model.network.weights
    assert weights is not None
    assert len(weights) > 3
    zoo.write_text("models:\n  - pt2: missing.pt2\n    bindings: {height: 3}\n")
    with pytest.raises(iosfarm.IosfarmError) as caught:
        load_zoo(zoo)
    assert "pt2: there is no file" in str(caught.value)
    assert "only onnx takes bindings" in str(caught.value)


def test_weights_of_a_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Search, run, export, and the export again: all by the file's name."""
    from iosfarm.cli.main import run

    monkeypatch.chdir(tmp_path)
    module = perturbed(NETWORKS["fire"][0]())
    save(export(module, (torch.zeros(1, *IMAGE),), strict=False), "net.pt2")
    Path("zoo.yaml").write_text("models: [{pt2: net.pt2}]\ndefaults: {devices: ['sim:v100'], gap: 0.5}\n")
    command = ["search", "--models", "zoo.yaml", "--db", "l.db", "--executor", "inline", "--out", "."]
    assert run(command) == 0
    schedule = "net-sim-v100-b1-float32.json"
    assert run(["run", schedule, "--device", "cpu", "--weights", "net.pt2", "--rounds", "1"]) == 0
    assert run(["export", schedule, "--weights", "net.pt2", "--torch", "merged.pt2"]) == 0
    capsys.readouterr()
    found, x = import_archive("merged.pt2"), torch.randn(1, *IMAGE)
    (expected,) = [module(x)] if isinstance(module(x), Tensor) else module(x)
    from iosfarm.kernels.reference import run_graph

    (output,) = run_graph(found.graph, found.weights, [x.numpy()])
    assert torch.allclose(torch.from_numpy(output).float(), expected, rtol=1e-4, atol=1e-5)
