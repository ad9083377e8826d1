"""What every framework is given: a network, its weights and inputs, as files in a folder. No code, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.graph import Graph

Array = NDArray[np.generic]

GRAPH, WEIGHTS, INPUTS, SETTINGS, ONNX = "graph.json", "weights.npz", "inputs.npz", "settings.json", "model.onnx"


@dataclass(frozen=True)
class Problem:
    """A network to run, read from the folder that `write` has made."""

    folder: Path

    @cached_property
    def graph(self) -> Graph:
        """The network."""
        return Graph.from_json(json.loads((self.folder / GRAPH).read_text(encoding="utf-8")))

    @cached_property
    def weights(self) -> dict[str, Array]:
        """float32, by `operator.parameter`."""
        return _read(self.folder / WEIGHTS)

    @cached_property
    def inputs(self) -> list[Array]:
        """One array for each input of the graph, NCHW, in the graph's dtype (bfloat16: as float32)."""
        found = _read(self.folder / INPUTS)
        return [found[item.name] for item in self.graph.inputs]

    @cached_property
    def settings(self) -> dict[str, object]:
        """`device`, `threads`, and what single adapters are told."""
        found: dict[str, object] = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
        return found

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return str(self.settings["device"])

    @property
    def threads(self) -> int:
        """Threads that a framework may compute with on a CPU."""
        return int(str(self.settings["threads"]))

    @property
    def onnx(self) -> Path:
        """The network as an ONNX model; there where an adapter reads it."""
        return self.folder / ONNX


def write(
    folder: Path, graph: Graph, weights: Mapping[str, Array], inputs: Sequence[Array], settings: Mapping[str, object]
) -> Problem:
    """Write what `Problem` reads."""
    (folder / GRAPH).write_text(json.dumps(graph.to_json()), encoding="utf-8")
    np.savez(folder / WEIGHTS, **weights)  # type: ignore[arg-type]
    np.savez(folder / INPUTS, **{item.name: array for item, array in zip(graph.inputs, inputs, strict=False)})  # type: ignore[arg-type]
    (folder / SETTINGS).write_text(json.dumps(dict(settings)), encoding="utf-8")
    return Problem(folder)


def _read(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
