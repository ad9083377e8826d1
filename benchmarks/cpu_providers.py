"""Who computes the convolutions of the CPU runtime: torch or oneDNN's own interface; beside OpenVINO and ONNX Runtime.

    python benchmarks/cpu_providers.py [--networks squeezenet inception_v3 …] [--rounds 20] [--threads N] [--batch 1]

Whole networks, float32, the same weights, on the same threads in turns; the first execution of each turn is left out.
Prints medians and minima in milliseconds, their ratios to our sequential schedule with torch's convolutions, and the
largest difference of a result to torch's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np
import onnxruntime
import openvino
from cpu_runtime import greedy, load, sequential

from iosfarm.deploy.onnx_export import to_onnx
from iosfarm.ir.graph import Graph
from iosfarm.kernels.cpu.operators import convolution
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.runtime import Array, Weights
from iosfarm.zoo.weights import random_weights

NETWORKS = ["squeezenet", "inception_v3", "randwire", "nasnet_large"]
Turn = Callable[[int], list[float]]
"""Executes so many times; seconds of each."""


@contextmanager
def torch_convolutions() -> Iterator[None]:
    """What is prepared meanwhile has them, as if oneDNN were not installed."""
    found, convolution.onednn = convolution.onednn, lambda: None  # type: ignore[assignment]
    try:
        yield
    finally:
        convolution.onednn = found


def timed(call: Callable[[], object]) -> Turn:
    """A call by the clock."""

    def turn(count: int) -> list[float]:
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return times

    return turn


def openvino_turn(model: bytes, x: Array, threads: int) -> tuple[Turn, Callable[[], Array]]:
    """OpenVINO as `iosfarm compare` has it."""
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    tensor = openvino.Tensor(x)
    request.set_input_tensor(0, tensor)

    def result() -> Array:
        request.infer()
        return np.array(request.get_output_tensor(0).data)

    return timed(request.infer), result


def onnxruntime_turn(model: bytes, x: Array, threads: int) -> tuple[Turn, Callable[[], Array]]:
    """ONNX Runtime as `iosfarm compare` has it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: x}
    return timed(lambda: session.run(None, feeds)), lambda: np.array(session.run(None, feeds)[0])


def compare(graph: Graph, weights: Weights, runtime: CpuRuntime, threads: int, rounds: int) -> None:
    """Print one network's rows."""
    x = np.random.default_rng(0).standard_normal(graph.shape(graph.inputs[0].name), dtype=np.float32)
    turns: dict[str, Turn] = {}
    results: dict[str, Array] = {}
    for name, schedule in (("sequential", sequential(graph)), ("greedy", greedy(graph))):
        with torch_convolutions():
            ours = {"torch": runtime.prepare_schedule(graph, schedule, weights)}
        ours["oneDNN"] = runtime.prepare_schedule(graph, schedule, weights)
        for provider, executable in ours.items():
            (results[f"{name}, {provider}"],) = executable.run(x)
            turns[f"{name}, {provider}"] = executable.time
    model = to_onnx(graph, weights).SerializeToString()
    for name, prepare in (("OpenVINO", openvino_turn), ("ONNX Runtime", onnxruntime_turn)):
        turns[name], result = prepare(model, x, threads)
        results[name] = result()
    samples: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            taken = turn(3)[1:]
            if number:  # the first round warms up
                samples[name] += taken
    first = next(iter(turns))
    print(f"{graph.name}, batch {graph.batch}, {len(graph.units)} units, load {os.getloadavg()[0]:.2f}:")
    for name, taken in samples.items():
        median, least = statistics.median(taken), min(taken)
        faster, at_least = statistics.median(samples[first]) / median, min(samples[first]) / least
        error = np.abs(results[name] - results[first]).max() / np.abs(results[first]).max()
        print(
            f"  {name:20} {median * 1e3:9.2f} ms (least {least * 1e3:8.2f}), "
            f"{faster:.2f}x ({at_least:.2f}x), off by {error:.0e}",
            flush=True,
        )


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="of the zoo")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    for network in arguments.networks:
        with closing(CpuRuntime(arguments.threads)) as runtime:
            device, environment = runtime.fingerprint()
            if network == arguments.networks[0]:
                print(f"{device.model}, {dict(device.properties)}, {dict(environment.hard)}")
            graph = load(network).bind(batch=arguments.batch)
            threads = int(str(device.properties["cores"]))
            compare(graph, random_weights(graph), runtime, threads, arguments.rounds)


if __name__ == "__main__":
    main()
