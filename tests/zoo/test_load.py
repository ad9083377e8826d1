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


def test_torch_module_is_not_supported_yet() -> None:
    import torch

    with pytest.raises(UsageError, match=r"loading a torch\.Linear is not supported yet"):
        iosfarm.load(torch.nn.Linear(2, 2))
