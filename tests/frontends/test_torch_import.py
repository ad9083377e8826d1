"""torch modules: imported networks compute what the module does, for any batch."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import iosfarm
from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.torch import import_module
from iosfarm.ir.graph import Graph

from imported_networks import IMAGE, NETWORKS, OPAQUE, conv, largest_error, perturbed  # isort: skip - beside this file


def examples(shapes: tuple[tuple[int, ...], ...], batch: int = 2) -> list[Tensor]:
    return [torch.zeros(batch, *shape) for shape in shapes]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_style(name: str) -> None:
    make, shapes = NETWORKS[name]
    torch.manual_seed(1)
    module = perturbed(make())
    imported = import_module(module, examples(shapes), strict=True)
    assert imported.opaque == ()
    assert {o.kind for o in imported.graph.operators}.isdisjoint({"dropout", "opaque"})
    for batch in (1, 3):
        assert largest_error(imported, module, shapes, batch) <= 1e-5
    document = json.loads(json.dumps(imported.graph.to_json()))
    assert Graph.from_json(document) == imported.graph


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_not_known_stays_whole(name: str) -> None:
    make, kinds = OPAQUE[name]
    torch.manual_seed(2)
    module = perturbed(make())
    imported = import_module(module, examples((IMAGE,)))
    assert {kind for item in imported.opaque for kind in item.operators} == kinds
    assert [n for n in imported.notices if "has no counterpart" in n] == [
        f"{item} has no counterpart and runs whole, through torch" for item in imported.opaque
    ]
    assert {o.name for o in imported.graph.operators if o.kind == "opaque"} == {item.name for item in imported.opaque}
    for batch in (1, 3):
        assert largest_error(imported, module, (IMAGE,), batch) <= 1e-5
    with pytest.raises(CannotImport, match=r"imported_networks\.py:\d+.*has no counterpart.*leave out strict"):
        import_module(module, examples((IMAGE,)), strict=True)


def test_batch_norms_are_folded_activations_fused_weights_kept() -> None:
    module = perturbed(nn.Sequential(conv(3, 8), nn.Conv2d(8, 4, 1), nn.Dropout(), nn.Flatten(), nn.Linear(64, 5)))
    imported = import_module(module, torch.zeros(1, 3, 4, 4))
    assert [(o.name, o.kind, o.attributes.get("activation")) for o in imported.graph.operators] == [
        ("0.0", "conv2d", "relu"), ("1", "conv2d", "none"), ("3", "flatten", None), ("4", "linear", "none"),
    ]  # fmt: skip
    last = module[4]
    assert isinstance(last, nn.Linear)
    np.testing.assert_array_equal(imported.weights["4.weight"], last.weight.detach().numpy())
    with torch.no_grad():
        last.weight.zero_()
    assert imported.weights["4.weight"].any(), "the weights are the import's own"


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(conv(3, 4), nn.Dropout()).train()
    module[0].eval()
    before = copy.deepcopy(module.state_dict())
    import_module(module, torch.zeros(2, 3, 8, 8))
    assert module.training
    assert not module[0].training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_signature() -> None:
    make, shapes = NETWORKS["two_inputs"]
    imported = import_module(make(), dict(zip(("vector", "image"), reversed(examples(shapes)), strict=True)))
    assert {i.name: i.shape for i in imported.graph.inputs} == {"vector": (6,), "image": IMAGE}
    assert [place if isinstance(place, int) else "value" for place in imported.signature.outputs] == [
        0, 1, 2, 0, "value",
    ]  # fmt: skip


def test_unused_inputs_stay() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.relu(x)

    imported = import_module(Half(), [torch.zeros(1, 4), torch.zeros(1, 3)])
    assert [i.name for i in imported.graph.inputs] == ["x", "y"]
    assert imported.notices == ("the input 'y' is not used",)


def test_inputs_and_constants_as_outputs() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(2, 3))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, self.table.expand(x.shape[0], -1, -1)

    module = Odd()
    imported = import_module(module, torch.zeros(1, 4))
    assert largest_error(imported, module, ((4,),), 3) == 0


LAYERS = {
    "conv": lambda c: nn.Conv2d(c, 6, 3, padding=1, bias=False),
    "strided": lambda c: nn.Conv2d(c, 4, 3, stride=2, padding=1),
    "same": lambda c: nn.Conv2d(c, 4, (2, 3), padding="same"),
    "depthwise": lambda c: nn.Conv2d(c, 2 * c, 3, padding=1, groups=c),
    "norm": nn.BatchNorm2d,
    "relu": lambda _: nn.ReLU(inplace=True),
    "swish": lambda _: nn.Hardswish(inplace=True),
    "pool": lambda _: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "mean": lambda _: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "pad": lambda _: nn.ZeroPad2d((1, 1, 2, 2)),
    "reflect": lambda _: nn.ReflectionPad2d((1, 0, 0, 1)),
    "up": lambda _: nn.Upsample(scale_factor=2, mode="bilinear"),
    "transposed": lambda c: nn.ConvTranspose2d(c, 4, 3, stride=2, groups=2 if c % 2 == 0 else 1),
    "scale": lambda c: Scaled(c),
    "dropout": lambda _: nn.Dropout2d(),
}


class Scaled(nn.Module):
    """A scale and an offset for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)
        self.bias = nn.Parameter(torch.rand(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=6), skip=st.booleans())
def test_any_chain_of_layers(names: list[str], skip: bool) -> None:
    """Folding, fusing and dropping change nothing, whatever stands beside whatever."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    x = torch.zeros(1, 3, 9, 8)
    for name in names:
        layers.append(LAYERS[name](x.shape[1]))  # type: ignore[no-untyped-call]
        x = layers[-1].eval()(x)
    body = perturbed(nn.Sequential(*layers))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x)
            # Something else reads the body's result, so that its end cannot be fused away.
            return torch.cat([y, y.sigmoid()], 1) if skip else y

    module = Net().eval()
    imported = import_module(module, torch.zeros(1, 3, 9, 8), strict=True)
    assert largest_error(imported, module, ((3, 9, 8),), 2) <= 1e-5
    kinds = [o.kind for o in imported.graph.operators]
    assert "dropout" not in kinds
    for before, after in zip(imported.graph.operators, imported.graph.operators[1:], strict=False):
        assert (before.kind, after.kind) != ("conv2d", "batch_norm")


# -- what cannot be --------------------------------------------------------------------------------------------------


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if x.sum() > 0 else x


class Picking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


class Conditional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y.relu(), lambda y: y.sigmoid(), (x,))  # type: ignore[no-any-return]


class Spectral(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x).abs()


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x + self.count


class OverTheBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (Branching(), torch.zeros(1, 4), "torch cannot export it: .*data-dependent.*torch.where"),
        (Picking(), torch.zeros(1, 4), "torch.where|no fixed shape"),
        (Conditional(), torch.zeros(1, 4), r"control flow \(cond\)"),
        (Spectral(), torch.zeros(1, 3, 8, 8), "computes with complex numbers"),
        (Random(), torch.zeros(1, 4), "aten.rand_like.default is not allowed.*random"),
        (Counting(), torch.zeros(1, 4), "changes 'count' when it runs"),
        (OverTheBatch(), torch.zeros(1, 4), "a single number"),
        (nn.Linear(3, 4), torch.zeros(1, 5), "torch cannot export it: .*perhaps"),
        (nn.Linear(3, 4), [torch.zeros(1, 3), torch.zeros(1, 3)], "torch cannot export it: .*argument"),
        (nn.Linear(3, 4), None, "there are no example inputs"),
        (nn.ReLU(), torch.zeros(1, 3, dtype=torch.int8), "input 0 is int8"),
        (nn.Embedding(3, 4), torch.zeros(1, 3, dtype=torch.long), "input 0 is int64; .*embedding"),
        (nn.ReLU(), torch.zeros(1, 3, dtype=torch.complex64), "input 0 is complex64"),
        (nn.Linear(3, 4), torch.zeros(3), r"input 0 has the shape \[3\]; the first axis"),
        (nn.Bilinear(3, 3, 4), [torch.zeros(1, 3), torch.zeros(2, 3)], r"input 1 has the shape \[2, 3\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported(module: nn.Module, example: object, words: str) -> None:
    with pytest.raises(CannotImport, match=words) as caught:
        import_module(module, example)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_load_warns_of_what_stays_whole() -> None:
    make, _ = OPAQUE["ranked"]
    with pytest.warns(UserWarning, match="aten.topk.*runs whole"):
        graph = iosfarm.load(make(), example_inputs=torch.zeros(1, *IMAGE))
    assert "opaque" in {o.kind for o in graph.operators}
