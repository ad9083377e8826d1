"""torchvision's and timm's networks, and factories of one's own, by name."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.named import import_named
from iosfarm.frontends.torch import import_module

from imported_networks import largest_error, perturbed  # isort: skip - beside this file
from torchvision_operators import declare  # isort: skip

declare()
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed: pip install 'iosfarm[models]'")

SMALL = (3, 64, 64)


def small_families() -> dict[str, nn.Module]:
    """torchvision's classifiers, one of a family, as small as their authors allow; those that cannot be made small
    are tried by `benchmarks/frontends.py`.
    """
    from torchvision import models
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    from torchvision.models.maxvit import MaxVit

    return {
        "convnext": ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], layer_scale=1.0),
        "densenet": models.DenseNet(8, (2, 3), 16, num_classes=9),
        "googlenet": models.GoogLeNet(num_classes=9, init_weights=False, transform_input=True),
        "maxvit": MaxVit((64, 64), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=9),
        "mnasnet": models.MNASNet(0.35, num_classes=9),
        "mobilenet_v2": models.MobileNetV2(9, 0.35),
        "mobilenet_v3": models.mobilenet_v3_small(num_classes=9, width_mult=0.5),
        "regnet": models.regnet_y_400mf(num_classes=9),
        "resnet": models.resnet18(num_classes=9),
        "shufflenet_v2": models.shufflenet_v2_x0_5(num_classes=9),
        "squeezenet": models.squeezenet1_1(num_classes=9),
        "swin": models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=9),
        "vit": models.VisionTransformer(64, 16, 2, 2, 16, 32, num_classes=9),
    }


FAMILIES = (
    "convnext", "densenet", "googlenet", "maxvit", "mnasnet", "mobilenet_v2", "mobilenet_v3", "regnet", "resnet",
    "shufflenet_v2", "squeezenet", "swin", "vit",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def families() -> dict[str, nn.Module]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return small_families()


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_families(name: str, families: dict[str, nn.Module]) -> None:
    assert set(families) == set(FAMILIES)
    module = perturbed(families[name])
    imported = import_module(module, torch.zeros(1, *SMALL), strict=True)
    assert imported.opaque == ()
    assert largest_error(imported, module, (SMALL,), 2, torch.float32) <= 1e-4


def test_pyramids_and_heads() -> None:
    """Several outputs of several sizes: a feature pyramid, and what a detector's heads make of it."""
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops import FeaturePyramidNetwork

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.ModuleList([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 24, 3, 2, 1)])
            self.pyramid = FeaturePyramidNetwork([8, 16, 24], 8)
            self.head = RetinaNetHead(8, 3, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            features = {}
            for i, layer in enumerate(self.stem):
                features[str(i)] = x = layer(x).relu()
            return self.head(list(self.pyramid(features).values()))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    module = perturbed(Detector())
    imported = import_module(module, torch.zeros(1, 3, 32, 32), strict=True)
    assert len(imported.graph.outputs) == 2
    assert largest_error(imported, module, ((3, 32, 32),), 2) <= 1e-5


@pytest.mark.parametrize("name", ["test_vit"])
def test_timm(name: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed: pip install 'iosfarm[models]'")
    imported = import_named("timm", name, strict=True)
    assert imported.opaque == ()
    again = import_named("timm", name)
    assert imported.graph == again.graph
    assert all((imported.weights[key] == again.weights[key]).all() for key in imported.weights), "the same each time"


# -- a factory of one's own --------------------------------------------------------------------------------------------

CODE = """
from torch import nn

class Factories:
    @staticmethod
    def tiny(width=4):
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())

def number():
    return 3

def broken():
    raise ValueError("no\\nsuch thing")

width = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_own_networks.py").write_text(CODE)
    return tmp_path


def test_factories(folder: Path) -> None:
    imported = import_named(
        "torch", "my_own_networks:Factories.tiny", arguments={"width": 7}, inputs=[[3, 9, 9]], folder=folder
    )
    assert imported.graph.name == "Factories.tiny"
    assert imported.weights["0.weight"].shape == (7, 3, 3, 3)


def test_weights_of_a_factory(folder: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    path = folder / "weights.pt"
    for content in (module.state_dict(), {"state_dict": module.state_dict(), "epoch": torch.tensor(3)}):
        torch.save(content, path)
        name = "my_own_networks:Factories.tiny"
        imported = import_named("torch", name, inputs=[[3, 9, 9]], folder=folder, state=path)
        assert (imported.weights["0.weight"] == module[0].weight.detach().numpy()).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nn.Linear(3, 4), "not a file of weights alone: UnpicklingError"),
        ({"0.weight": torch.zeros(4, 3, 3, 3)}, 'these weights do not fit: Missing key.*"0.bias"'),
        ({"0.weight": torch.zeros(5, 3, 3, 3), "0.bias": torch.zeros(4)}, "these weights do not fit: size mismatch"),
        ([torch.zeros(3)], "not a state dict"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, content: object, words: str) -> None:
    torch.save(content, folder / "weights.pt")
    with pytest.raises(CannotImport, match=words) as caught:
        import_named("torch", "my_own_networks:Factories.tiny", folder=folder, state=folder / "weights.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("library", "name", "words"),
    [
        ("torch", "my_own_networks", "is no factory; write package.module:factory"),
        ("torch", "no_such_module:x", "there is no module 'no_such_module'"),
        ("torch", "my_own_networks:Factorys", "my_own_networks has no 'Factorys'; did you mean Factories"),
        ("torch", "my_own_networks:width", "is no factory but a int"),
        ("torch", "my_own_networks:number", "it makes a int, not a torch module"),
        ("torch", "my_own_networks:broken", "cannot be made: ValueError: no; arguments and downloads"),
        ("torchvision", "resnet19", r"torchvision has no model 'resnet19'; did you mean resnet1\d"),
        ("timm", "hrnet_w19", "timm has no model 'hrnet_w19'; did you mean hrnet_w18"),
        ("torchvision", "resnet18", "cannot be made: TypeError"),
    ],
)
def test_names_that_lead_nowhere(library: str, name: str, words: str, folder: Path) -> None:
    if library == "timm":
        pytest.importorskip("timm")
    arguments = {"widht": 3} if name == "resnet18" else {}
    with pytest.raises(CannotImport, match=words):
        import_named(library, name, arguments=arguments, folder=folder)


def test_a_torchvision_of_another_build_is_told_with_the_right_one(tmp_path: Path) -> None:
    """In a process of its own: here torchvision is loaded already."""
    code = "from iosfarm.frontends.named import import_named\nimport_named('torchvision', 'resnet18')"
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    last = found.stderr.strip().splitlines()[-1]
    assert "does not fit this torch" in last
    assert "--index-url https://download.pytorch.org/whl/" in last


def test_a_factory_that_leaves_the_program(tmp_path: Path) -> None:
    (tmp_path / "leaving_networks.py").write_text("import sys\n\ndef leave():\n    sys.exit(4)\n")
    with pytest.raises(CannotImport, match="cannot be made: SystemExit: 4"):
        import_named("torch", "leaving_networks:leave", folder=tmp_path)


def test_inputs_beyond_the_memory() -> None:
    with pytest.raises(CannotImport, match="these inputs do not fit into memory"):
        import_named("torch", "torch.nn:ReLU", inputs=[[3, 1 << 24, 1 << 24]])


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's segmentation and detection networks load a trained backbone unless told not to."""

    def refuse(url: str, *_: object, **__: object) -> None:
        raise AssertionError(f"{url} was asked for")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    found = import_named("torchvision", "lraspp_mobilenet_v3_large", inputs=[[3, 64, 64]], strict=True)
    assert len(found.graph.units) > 50
