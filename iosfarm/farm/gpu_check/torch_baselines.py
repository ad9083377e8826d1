"""The same network in torch on the GPU: eager, in a CUDA graph, compiled; the same precision, channels last."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from iosfarm.farm.gpu_check.context import Context
from iosfarm.farm.gpu_check.rows import Value
from iosfarm.ir.graph import Graph
from iosfarm.kernels.cuda.options import parse_spec
from iosfarm.workers.random_weights import random_weights
from iosfarm.zoo import load

SAMPLES = 40
WARMUP = 5


def section(model: str) -> Callable[[Context], None]:
    """The section of a network."""
    return partial(run, model=model)


def run(context: Context, *, model: str) -> None:
    """A row for each baseline, as soon as it is known: the compiler may take longer than there is time."""
    precision = parse_spec(context.device).precision if context.device.startswith("cuda") else "ieee"
    for name, measured in torch_baselines(load(model), context.left - 2, precision):
        context.rows.add(model=model, baseline=name, **measured)


def torch_baselines(graph: Graph, seconds: float, precision: str = "ieee") -> Iterator[tuple[str, dict[str, Value]]]:
    """Seconds of each baseline; none where torch sees no GPU. torch.compile comes last: it takes the longest."""
    import torch

    if not torch.cuda.is_available():
        return
    deadline = time.monotonic() + seconds
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    dtype = getattr(torch, graph.dtype)
    network = _network(graph, dtype)
    inputs = [_on_gpu(torch.randn(graph.shape(item.name)), dtype) for item in graph.inputs]
    for name, prepare in (("torch eager", _plain), ("torch cuda graph", _graphed), ("torch.compile", _compiled)):
        if deadline - time.monotonic() < 1:
            yield name, {"skipped": "no time left"}
            continue
        try:
            with torch.inference_mode():
                measured = _timed(prepare(network, inputs))
        except Exception as error:
            # A compiler can fail in any way; the other baselines count all the same.
            measured = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        yield name, measured


def _network(graph: Graph, dtype: Any) -> Callable[..., Any]:
    """The graph's operators, one after the other, on the GPU."""
    import torch

    from iosfarm.kernels.torch_operators import bind

    weights = random_weights(graph)
    functions = []
    for operator in graph.operators:
        bound = {
            name: _on_gpu(torch.from_numpy(weights[f"{operator.name}.{name}"]), dtype)
            for name in graph.parameters(operator)
        }
        functions.append((operator.name, operator.inputs, bind(operator.kind, operator.attributes, bound)))
    names = [item.name for item in graph.inputs]

    def network(*inputs: Any) -> list[Any]:
        values = dict(zip(names, inputs, strict=True))
        for name, sources, function in functions:
            values[name] = function(*[values[source] for source in sources])
        return [values[name] for name in graph.outputs]

    return network


def _on_gpu(tensor: Any, dtype: Any) -> Any:
    import torch

    moved = tensor.to("cuda", dtype)
    return moved.contiguous(memory_format=torch.channels_last) if moved.dim() == 4 else moved


def _plain(network: Callable[..., Any], inputs: list[Any]) -> Callable[[], object]:
    return lambda: network(*inputs)


def _graphed(network: Callable[..., Any], inputs: list[Any]) -> Callable[[], object]:
    import torch

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            network(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(*inputs)
    return graph.replay


def _compiled(network: Callable[..., Any], inputs: list[Any]) -> Callable[[], object]:
    import torch

    compiled = torch.compile(network, mode="reduce-overhead")
    return lambda: compiled(*inputs)


def _timed(execute: Callable[[], object]) -> dict[str, Value]:
    """Median of executions between events; one that is not timed goes before each, so that launching it is hidden."""
    import torch

    for _ in range(WARMUP):
        execute()
    torch.cuda.synchronize()
    samples = []
    for _ in range(SAMPLES):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        execute()
        events[0].record()
        execute()
        events[1].record()
        torch.cuda.synchronize()
        samples.append(events[0].elapsed_time(events[1]) * 1e-3)
    return {"median": statistics.median(samples), "samples": len(samples)}
