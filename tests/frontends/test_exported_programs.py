"""Programs that torch.export made: with fixed sizes, decomposed, with dynamic sizes, with changes in place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.torch import import_module

from imported_networks import IMAGE, NETWORKS, largest_error, perturbed  # isort: skip - beside this file


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["excitation", "split_attention", "transformer", "windows", "shuffled"])
def test_fixed_sizes(name: str, batch: int) -> None:
    """A batch that is written into the program is told by its place."""
    make, shapes = NETWORKS[name]
    torch.manual_seed(3)
    module = perturbed(make())
    program = export(module, tuple(torch.zeros(batch, *shape) for shape in shapes), strict=False)
    imported = import_module(program, strict=True)
    for other in (1, 3):
        assert largest_error(imported, module, shapes, other) <= 1e-5


@pytest.mark.parametrize("name", ["fire", "dense", "transformer", "decoder", "shuffled"])
def test_decomposed(name: str) -> None:
    """torch's core operators alone: what a program looks like after `run_decompositions`."""
    make, shapes = NETWORKS[name]
    torch.manual_seed(4)
    module = perturbed(make())
    program = export(module, tuple(torch.zeros(2, *shape) for shape in shapes), strict=False).run_decompositions()
    imported = import_module(program)
    assert largest_error(imported, module, shapes, 3) <= 1e-5


def test_dynamic_batch() -> None:
    make, shapes = NETWORKS["excitation"]
    module = perturbed(make())
    program = export(module, (torch.zeros(4, *IMAGE),), dynamic_shapes=({0: Dim("batch")},), strict=False)
    imported = import_module(program, strict=True)
    assert largest_error(imported, module, shapes, 3) <= 1e-5


def test_dynamic_sizes_are_bound_or_refused() -> None:
    make, _ = NETWORKS["fire"]
    module = perturbed(make())
    sizes = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
    program = export(module, (torch.zeros(4, *IMAGE),), dynamic_shapes=sizes, strict=False)
    with pytest.raises(CannotImport, match=r"axis 2 of the input 'x' is dynamic .*; give example inputs"):
        import_module(program)
    imported = import_module(program, torch.zeros(1, 3, 12, 20))
    assert imported.graph.inputs[0].shape == (3, 12, 20)
    assert largest_error(imported, module, ((3, 12, 20),), 2) <= 1e-5


class Views(nn.Module):
    """Changes through views, which every tensor that shares the memory sees."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        left = y[:, :2]
        left.add_(1)
        flat = y.view(y.shape[0], -1)
        flat.mul_(3)
        return y + left.sum(1, keepdim=True)


def test_changes_through_views() -> None:
    imported = import_module(Views(), torch.zeros(1, 4, 5))
    assert largest_error(imported, Views(), ((4, 5),), 2) <= 1e-6


def test_a_program_in_training_mode() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()).train()
    program = export(module, (torch.zeros(1, *IMAGE),), strict=False)
    with pytest.raises(CannotImport, match=r"dropout in training mode; export the module after \.eval\(\)"):
        import_module(program)


def test_three_thousand_operators() -> None:
    """Deep programs take time in proportion: no rule looks at the whole graph again for each operator."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            for i in range(720):
                x = torch.relu(x * self.weight) + (x if i % 2 else x.sigmoid())
            return x

    program = export(Deep(), (torch.zeros(1, 4, 6, 6),), strict=False)
    assert len(program.graph.nodes) > 2500
    imported = import_module(program, strict=True)
    assert len(imported.graph.operators) > 1500
