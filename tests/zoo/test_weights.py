"""Random weights keep activations finite; weights files fit or say what does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.zoo import load
from iosfarm.zoo.weights import expected_weights, load_weights, random_weights, save_weights

if TYPE_CHECKING:
    from iosfarm.zoo.weights import Weights


def apply(kind: str, a: dict[str, Any], x: list[torch.Tensor], w: dict[str, torch.Tensor]) -> torch.Tensor:
    """One operator; only the kinds that the zoo uses."""
    window: dict[str, Any] = {name: a.get(name) for name in ("stride", "padding")}
    result: torch.Tensor = {
        "conv2d": lambda: F.conv2d(
            x[0], w["weight"], w.get("bias"), dilation=a["dilation"], groups=a["groups"], **window
        ),
        "linear": lambda: F.linear(x[0], w["weight"], w["bias"]),
        "relu": lambda: F.relu(x[0]),
        "max_pool": lambda: F.max_pool2d(x[0], a["kernel"], ceil_mode=a["ceil_mode"], **window),
        "avg_pool": lambda: F.avg_pool2d(
            x[0], a["kernel"], ceil_mode=a["ceil_mode"], count_include_pad=a["count_include_pad"], **window
        ),
        "global_avg_pool": lambda: x[0].mean((2, 3), keepdim=True),
        "flatten": lambda: x[0].flatten(1),
        "add": lambda: torch.stack(x).sum(0),
        "concat": lambda: torch.cat(x, 1),
        "pad": lambda: F.pad(x[0], a["padding"]),
        "batch_norm": lambda: F.batch_norm(
            x[0], w["running_mean"], w["running_var"], w["weight"], w["bias"], eps=a["eps"]
        ),
    }[kind]()
    return F.relu(result) if a.get("activation") == "relu" else result


def forward(graph: Graph, weights: Weights) -> dict[str, torch.Tensor]:
    """Every tensor of a run on noise."""
    torch.manual_seed(0)
    values = {item.name: torch.randn(graph.shape(item.name)) for item in graph.inputs}
    for operator in graph.operators:
        w = {p: torch.from_numpy(weights[f"{operator.name}.{p}"]) for p in graph.parameters(operator)}
        inputs = [values[name] for name in operator.inputs]
        values[operator.name] = apply(operator.kind, dict(operator.attributes), inputs, w)
        assert values[operator.name].shape == graph.shape(operator.name), operator
    return values


SMALL: dict[str, dict[str, object]] = {
    "inception_v3": {"image_size": 139},
    "randwire": {"image_size": 64, "channels": 20},
    "nasnet_large": {"image_size": 131, "filters": 24},
    "squeezenet": {},
    "sample": {},
    "resnet50": {"image_size": 96},
    "googlenet": {"image_size": 96},
}


@pytest.mark.parametrize("name", SMALL)
def test_activations_neither_explode_nor_vanish(name: str) -> None:
    graph = load(name, **SMALL[name])
    values = forward(graph, random_weights(graph))
    scale = {operator.name: values[operator.name].square().mean().sqrt().item() for operator in graph.operators}
    assert min(scale.values()) > 0.1, min(scale, key=lambda name: scale[name])
    assert max(scale.values()) < 30, max(scale, key=lambda name: scale[name])


def test_batch_norm() -> None:
    b = GraphBuilder("norm")
    x = b.input((8, 16, 16))
    graph = b.build(b.batch_norm(b.conv2d(x, 16, 3), activation="relu"))
    weights = random_weights(graph)
    assert (weights["batch_norm_1.running_var"] > 0).all()
    assert 0.2 < forward(graph, weights)["batch_norm_1"].std().item() < 2


def test_same_seed_same_weights() -> None:
    graph = load("sample")
    first, again, other = random_weights(graph, 3), random_weights(graph, 3), random_weights(graph, 4)
    assert {name: array.shape for name, array in first.items()} == expected_weights(graph)
    assert all(array.dtype == np.float32 for array in first.values())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["conv2d_1.weight"], other["conv2d_1.weight"])
    assert all(np.array_equal(array, random_weights(graph.bind(batch=4), 3)[name]) for name, array in first.items())


def test_file_comes_back(tmp_path: Path) -> None:
    graph = load("sample", channels=4)
    weights = random_weights(graph)
    save_weights(weights, tmp_path / "w.safetensors")
    loaded = load_weights(graph, tmp_path / "w.safetensors")
    assert list(loaded) == list(weights)
    assert all(np.array_equal(loaded[name], weights[name]) for name in weights)


def changed(weights: Weights, change: str) -> dict[str, Any]:
    result: dict[str, Any] = dict(weights)
    name = "conv2d_2.bias"
    match change:
        case "missing":
            del result[name]
        case "misspelt":
            result["conv2d_2.bais"] = result.pop(name)
        case "shape":
            result[name] = weights[name][:3]
        case "dtype":
            result[name] = weights[name].astype(np.float64)
        case "other":
            result = {"x": np.zeros(1, np.float32)}
    return result


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("missing", "conv2d_2.bias is missing"),
        ("misspelt", "conv2d_2.bias is missing, conv2d_2.bais is not in the graph (did you mean conv2d_2.bias?)"),
        ("shape", "conv2d_2.bias has the shape [3] instead of [8]"),
        ("dtype", "conv2d_2.bias is F64 instead of F32"),
        ("other", "conv2d_1.weight is missing, conv2d_1.bias is missing, conv2d_2.weight is missing and 6 more"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: str, what: str) -> None:
    graph = load("sample", channels=4)
    path = tmp_path / "w.safetensors"
    save_weights(changed(random_weights(graph), change), path)
    with pytest.raises(UsageError) as error:
        load_weights(graph, path)
    assert str(error.value) == f"{path}: these weights do not fit sample: {what}"


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    graph = load("sample", channels=4)
    with pytest.raises(UsageError, match="cannot read these weights"):
        load_weights(graph, tmp_path / "none")
    with pytest.raises(UsageError, match=r"cannot read these weights|not a safetensors file"):
        load_weights(graph, tmp_path)
    (tmp_path / "bad").write_bytes(b"\x00" * 20)
    with pytest.raises(UsageError, match="not a safetensors file"):
        load_weights(graph, tmp_path / "bad")
    with pytest.raises(UsageError, match="cannot write these weights"):
        save_weights(random_weights(graph), tmp_path / "none" / "w")
