"""Graph documents as models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import iosfarm
from iosfarm.ir.errors import GraphError, UsageError


def test_document_comes_back(tmp_path: Path) -> None:
    graph = iosfarm.load("sample")
    path = tmp_path / "sample.json"
    path.write_text(json.dumps(graph.to_json()))
    assert iosfarm.load(path) == iosfarm.load(str(path)) == iosfarm.load(graph) == graph


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ufeff{}"])
def test_not_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.json: not a"):
        iosfarm.load(path)


def test_not_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"format": "other"}')
    with pytest.raises(GraphError, match=r"bad\.json: not a graph document; expected"):
        iosfarm.load(path)


def test_arguments_are_for_built_in_models(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unexpected argument 'seed'"):
        iosfarm.load(iosfarm.load("sample"), seed=3)


def test_torch_modules_come_with_example_inputs() -> None:
    import torch

    graph = iosfarm.load(torch.nn.Linear(2, 3), example_inputs=torch.zeros(1, 2))
    assert [(o.kind, o.attributes["out_features"]) for o in graph.operators] == [("linear", 3)]
    with pytest.raises(UsageError, match="there are no example inputs"):
        iosfarm.load(torch.nn.Linear(2, 3))
    with pytest.raises(UsageError, match="unexpected argument 'inputs'; expected one of example_inputs, strict, name"):
        iosfarm.load(torch.nn.Linear(2, 3), inputs=3)


@pytest.mark.parametrize("name", ["net.pt", "net.pth"])
def test_torch_files_are_not_loaded(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="reading one can run any code"):
        iosfarm.load(tmp_path / name)


@pytest.mark.parametrize("thing", [3, object(), ["squeezenet"], None])
def test_what_is_no_network(thing: object) -> None:
    with pytest.raises(UsageError, match="is no network"):
        iosfarm.load(thing)
