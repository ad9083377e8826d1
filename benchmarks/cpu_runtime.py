"""The CPU runtime on this machine: what a hand-off costs, and whether stages predict whole schedules.

    python benchmarks/cpu_runtime.py [--network inception_v3] [--rounds 15] [--threads N]

For each schedule: the sum of its stages' medians against the end-to-end median, from samples taken in turn.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import torch

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.cpu.streams import Streams
from iosfarm.kernels.runtime import Array


def squeezing(size: int = 128) -> Graph:
    """Eight fire modules between pools, like SqueezeNet."""
    b = GraphBuilder("squeezing")
    x = b.conv2d(b.input((3, size, size)), 64, 3, stride=2, activation="relu")
    for number, width in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if number in (0, 2, 4):
            x = b.max_pool(x, 3, stride=2, ceil_mode=True)
        squeezed = b.conv2d(x, width, 1, activation="relu")
        narrow = b.conv2d(squeezed, width * 4, 1, activation="relu")
        wide = b.conv2d(squeezed, width * 4, 3, padding=1, activation="relu")
        x = b.concat(narrow, wide)
    return b.build(b.linear(b.flatten(b.global_avg_pool(x)), 1000))


def load(name: str) -> Graph:
    """A network by name: ours or one of the zoo."""
    if name == "squeezing":
        return squeezing()
    from iosfarm.zoo.load import load as load_from_zoo

    return load_from_zoo(name)


def sequential(graph: Graph) -> Schedule:
    """One unit a stage."""
    return Schedule(tuple(ScheduledStage(0, "concurrent", ((unit.name,),)) for unit in graph.units), "sequential")


def greedy(graph: Graph) -> Schedule:
    """Every ready unit at once."""
    done: set[int] = set()
    stages = []
    while len(done) < len(graph.units):
        ready = [i for i, before in enumerate(graph.unit_predecessors) if i not in done and done >= set(before)]
        stages.append(ScheduledStage(0, "concurrent", tuple((graph.units[i].name,) for i in ready)))
        done.update(ready)
    return Schedule(tuple(stages), "greedy")


def random_weights(graph: Graph) -> dict[str, Array]:
    """Small values; a variance of one."""
    rng = np.random.default_rng(0)
    return {
        f"{operator.name}.{name}": np.ones(shape, np.float32)
        if name == "running_var"
        else rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(math.prod(shape[1:])))
        for operator in graph.operators
        for name, shape in graph.parameters(operator).items()
    }


def hand_off(streams: Streams, repeats: int = 2000) -> float:
    """Seconds to start an empty piece of work on every stream beside home, and to join (median)."""
    beside = streams.beside(streams.cores) or streams.beside(2)

    def once() -> float:
        begin = time.perf_counter()
        streams.fork(beside, lambda: None)
        return time.perf_counter() - begin

    return streams.home.call(lambda: statistics.median(once() for _ in range(repeats)))


@dataclass(frozen=True)
class Comparison:
    """Seconds. `alone`: sum of the medians of stages timed alone; `in_place`: the same within the whole schedule.

    On a machine that does other work too, `end` is longer than both: each of its samples is long enough to be
    interrupted, and the medians of the stages leave interruptions out. `least`: `alone` / `in_place` of minima, which
    leave out most.
    """

    alone: float
    in_place: float
    end: float
    least: float


def compare(runtime: CpuRuntime, graph: Graph, schedule: Schedule, rounds: int) -> Comparison:
    """Stages alone, stages in place and the whole, sampled in turn."""
    uses = [placed.stage for placed in schedule.place(graph, runtime.layout)]
    with ExitStack() as stack:
        distinct = {stage.key: stage for stage in uses}
        executables = {key: stack.enter_context(runtime.prepare(stage)) for key, stage in distinct.items()}
        whole = stack.enter_context(runtime.prepare_schedule(graph, schedule, random_weights(graph)))
        alone: dict[str, list[float]] = {key: [] for key in executables}
        in_place: list[list[float]] = []
        end: list[float] = []
        for number in range(rounds + 1):
            taken = {key: executable.time(3)[1:] for key, executable in executables.items()}
            stages, wholes = whole.time_stages(3)[1:], whole.time(3)[1:]
            if number:  # the first round warms up
                for key, samples in taken.items():
                    alone[key] += samples
                in_place += stages
                end += wholes
    return Comparison(
        sum(statistics.median(alone[stage.key]) for stage in uses),
        sum(statistics.median(samples) for samples in zip(*in_place, strict=True)),
        statistics.median(end),
        sum(min(alone[stage.key]) for stage in uses) / sum(min(samples) for samples in zip(*in_place, strict=True)),
    )


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="squeezing", help="squeezing, or a network of the zoo")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    graph = load(arguments.network)
    with closing(CpuRuntime(arguments.threads)) as runtime:
        device, environment = runtime.fingerprint()
        print(f"{device.model}, {dict(device.properties)}, load {os.getloadavg()[0]:.2f}")
        print(f"torch {torch.__version__}, {dict(environment.hard)}, {dict(environment.soft)}")
        print(f"hand-off to all streams and back: {hand_off(runtime._streams) * 1e6:.1f} µs")
        print(f"{graph.name}, batch {graph.batch}:")
        for schedule in (sequential(graph), greedy(graph)):
            c = compare(runtime, graph, schedule, arguments.rounds)
            print(
                f"  {schedule.method:10} {len(schedule.stages):3} stages: alone {c.alone * 1e3:8.3f} ms, "
                f"in place {c.in_place * 1e3:8.3f} ms, end to end {c.end * 1e3:8.3f} ms; "
                f"alone/in place {c.alone / c.in_place:.3f} (minima {c.least:.3f}), "
                f"alone/end to end {c.alone / c.end:.3f}"
            )


if __name__ == "__main__":
    main()
