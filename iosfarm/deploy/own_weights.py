"""The weights of a schedule file's network, from where the network is from: schedule files hold none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.zoo.load import Network, load_network
from iosfarm.zoo.registry import nearest
from iosfarm.zoo.weights import load_weights, random_weights
from iosfarm.zoo.zoo_file import load_zoo

if TYPE_CHECKING:
    from iosfarm.kernels.runtime import Weights


def weights_of(graph: Graph, model: str, path: Path | None, seed: int) -> Weights:
    """The weights of a graph.

    model: the network's name in the schedule file. path: a safetensors file; the ONNX or `.pt2` file that the network
    was imported from; or the zoo.yaml that names it, for networks of torch, torchvision, timm and ONNX; None: random
    ones from `seed`.

    Raises:
        UsageError: the file does not name this network, or has another.
    """
    if path is None:
        return random_weights(graph, seed)
    if path.suffix.lower() in (".onnx", ".pt2"):
        return _fitting(graph, load_network(path), path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return load_weights(graph, path)
    jobs = {job.label: job for job in load_zoo(path).jobs()}
    if model not in jobs:
        raise UsageError(f"no model is called {model!r}", where=str(path), hint=nearest(model, jobs))
    job = jobs[model]
    if job.weights is not None:
        return load_weights(graph, job.weights)
    job.load()
    return _fitting(graph, job.model.network, path)


def _fitting(graph: Graph, network: Network, path: Path) -> Weights:
    if network.graph.bind(batch=graph.batch, dtype=graph.dtype).content_hash != graph.content_hash:
        what = f"{network.graph.name} is another network than the schedule's {graph.name}"
        raise UsageError(what, where=str(path), hint="has it changed since the search? search again")
    if network.weights is None:
        hint = "give a safetensors file, or leave --weights out for random ones"
        raise UsageError(f"{network.graph.name} is built in, and has no weights", where=str(path), hint=hint)
    return network.weights
