"""Inference in the user's program: torch eager and `torch.compile(backend="iosfarm")`; onnxruntime and merges.

    python benchmarks/compile.py [--network inception_v3] [--rounds 30] [--budget 3m] [--folded] [--inductor]

Executions are warm and interleaved; of each pair the first is not counted. The network has a batch norm after each
convolution, as its authors' has; `--folded` folds them into the convolutions, for eager as well. The schedule is the
latency database's (`--database`, by default the user's own), or is searched for within the budget.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

import iosfarm
from iosfarm.deploy.merging import merged_graph
from iosfarm.deploy.onnx_export import to_onnx
from iosfarm.deploy.torch_backend import IosfarmFallback
from iosfarm.deploy.torch_export import to_module
from iosfarm.frontends.torch import import_module
from iosfarm.ir.graph import Graph
from iosfarm.ir.merge import merge_class
from iosfarm.ir.schedule import Schedule, ScheduledStage, mergeable
from iosfarm.zoo.weights import random_weights


def network(name: str, batch: int, folded: bool) -> tuple[nn.Module, Tensor]:
    """A network of the zoo as a torch module, and an input."""
    graph = iosfarm.load(name).bind(batch=batch)
    module: nn.Module = to_module(graph, random_weights(graph)).requires_grad_(False)
    if not folded:
        for path, layer in list(module.named_modules()):
            if isinstance(layer, nn.Conv2d):
                norm = nn.BatchNorm2d(layer.out_channels, eps=1e-3)
                nn.init.uniform_(norm.running_var, 0.8, 1.2)
                nn.init.normal_(norm.running_mean, std=0.1)
                module.set_submodule(path, nn.Sequential(layer, norm))
    return module.eval(), torch.randn(graph.shape(graph.inputs[0].name))


def interleaved(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; who comes first turns."""
    names = list(contestants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            contestants[name]()
            begin = time.perf_counter()
            contestants[name]()
            samples[name].append(time.perf_counter() - begin)
    return samples


def report(samples: dict[str, list[float]], reference: str) -> None:
    """Medians, their spread, and how much faster than a reference: of medians, and the median of the rounds' own."""
    for name, times in samples.items():
        median = statistics.median(times)
        spread = statistics.median(abs(t - median) for t in times)
        rounds = statistics.median(r / t for r, t in zip(samples[reference], times, strict=True))
        print(
            f"  {name:24} median {median * 1e3:8.2f} ms (MAD {spread * 1e3:.2f}, least {min(times) * 1e3:.2f}): "
            f"{statistics.median(samples[reference]) / median:5.3f}x {reference}, {rounds:5.3f}x round by round"
        )


def compare_torch(module: nn.Module, x: Tensor, arguments: argparse.Namespace) -> None:
    """torch eager in both memory formats, under a schedule, and compiled by torch."""
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    x_last = x.contiguous(memory_format=torch.channels_last)
    options = {"database": arguments.database, "budget": arguments.budget}
    ours = torch.compile(module, backend="iosfarm", options=options)
    begin = time.perf_counter()
    error = relative(ours(x).numpy(), module(x).numpy())
    print(f"torch, {torch.get_num_threads()} threads; the first call took {time.perf_counter() - begin:.1f} s, "
          f"error against eager {error:.1e}")  # fmt: skip
    contestants: dict[str, Callable[[], object]] = {
        "eager": lambda: module(x),
        "eager, channels last": lambda: last(x_last),
        "iosfarm": lambda: ours(x),
    }
    if arguments.inductor:
        inductor = torch.compile(copy.deepcopy(module))
        inductor(x)
        contestants["inductor"] = lambda: inductor(x)
    report(interleaved(contestants, arguments.rounds), "eager")


def all_merges(graph: Graph) -> Schedule:
    """Sequential, but for all convolutions of one tensor that can be one: merged as soon as one of them is due."""
    stages: list[ScheduledStage] = []
    done: set[int] = set()
    for unit in range(len(graph.units)):
        if unit in done:
            continue
        mergers = [u for u in range(len(graph.units)) if u not in done and merge_class(graph, u) is not None]
        same = [u for u in mergers if merge_class(graph, u) == merge_class(graph, unit)]
        group = same if mergeable(graph, same) else [unit]
        done.update(group)
        names = tuple((graph.units[u].name,) for u in group)
        stages.append(ScheduledStage(0, "merge" if len(group) > 1 else "concurrent", names))
    return Schedule(tuple(stages), "merged")


def compare_onnx(module: nn.Module, x: Tensor, arguments: argparse.Namespace) -> None:
    """The same network in onnxruntime: as it is, as the schedule merges it, and with all that can be merged."""
    imported = import_module(module, x)
    graph, weights = imported.graph.bind(batch=x.shape[0]), imported.weights
    with iosfarm.compile(imported, batch_size=x.shape[0], database=arguments.database) as model:
        schedules = {"merged by the schedule": model.schedule, "all merged": all_merges(graph)}
    models = {"as it is": to_onnx(graph, weights)}
    for name, schedule in schedules.items():
        merged, values = merged_graph(graph, schedule, weights)
        models[name] = to_onnx(merged, values)
    given = {graph.inputs[0].name: x.numpy()}
    sessions = {
        name: onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for name, model in models.items()
    }
    expected = module(x).numpy()
    print(f"onnxruntime {onnxruntime.__version__}")
    for name, session in sessions.items():
        convolutions = sum(node.op_type == "Conv" for node in models[name].graph.node)
        error = relative(session.run(None, given)[0], expected)
        print(f"  {name}: {convolutions} convolutions, error against torch {error:.1e}")
    runs = {name: lambda s=session: s.run(None, given) for name, session in sessions.items()}
    report(interleaved(dict(runs), arguments.rounds), "as it is")


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest number."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="inception_v3", help="of the zoo, with one output")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--folded", action="store_true", help="batch norms folded into convolutions, for eager too")
    parser.add_argument("--database", help="a file or URL")
    parser.add_argument("--budget", default="3m", help="for a search where the database has no schedule")
    parser.add_argument("--inductor", action="store_true", help="torch.compile with torch's own backend, too")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    module, x = network(arguments.network, arguments.batch, arguments.folded)
    norms = "folded" if arguments.folded else "as layers"
    print(f"{arguments.network}, batch {arguments.batch}, batch norms {norms}, load {os.getloadavg()[0]:.1f}")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error", IosfarmFallback)
        compare_torch(module, x, arguments)
        compare_onnx(module, x, arguments)


if __name__ == "__main__":
    main()
