"""Memory of a network's executions on the CPU: what is planned once, and what each execution takes beside it.

    python benchmarks/memory.py [squeezenet inception_v3 randwire] [--calls 20]

Prints, under the sequential and the greedy schedule: the arena's size and that of all tensors together; bytes that
torch's operators on the first stream take in one execution; page faults; and the same with every result in memory of
its own, as it would be without a plan. Each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
from contextlib import closing

from cpu_runtime import greedy, load, sequential

from iosfarm.kernels.cpu import program
from iosfarm.kernels.cpu.operators.prepared import Prepared
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.zoo.weights import random_weights

SCHEDULES = {"sequential": sequential, "greedy": greedy}


def without_plan() -> None:
    """What is prepared from now on makes its own results."""
    found = program._compute

    def compute(*arguments: object) -> object:
        made = found(*arguments)  # type: ignore[arg-type]
        return made.__call__ if isinstance(made, Prepared) else made

    program._compute = compute  # type: ignore[assignment]


def measure(name: str, method: str, calls: int) -> dict[str, float]:
    """Bytes and page faults of an execution."""
    from torch.profiler import ProfilerActivity, profile

    graph = load(name)
    sums = sum(4 * math.prod(graph.shape(operator.name)) for operator in graph.operators)
    with closing(CpuRuntime()) as runtime:
        executable = runtime.prepare_schedule(graph, SCHEDULES[method](graph), random_weights(graph))
        executable.time(5)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        executable.time(calls)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        def taken() -> float:
            values = executable._fresh()
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
                executable._execute(values)
            return sum(max(0, event.self_cpu_memory_usage) for event in found.events())

        beside = executable._streams.home.call(taken)
        return {"arena": executable.arena_bytes, "tensors": sums, "beside": beside, "faults": faults / calls}


def main() -> None:
    """Print two lines for each network and schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["squeezenet", "inception_v3", "randwire"])
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--one", choices=["planned", "not planned"], help=argparse.SUPPRESS)
    parser.add_argument("--method", choices=[*SCHEDULES], default="sequential", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        if arguments.one == "not planned":
            without_plan()
        print(json.dumps(measure(arguments.networks[0], arguments.method, arguments.calls)))
        return
    for name in arguments.networks:
        for method in SCHEDULES:
            for way in ("planned", "not planned"):
                command = [sys.executable, __file__, name, "--one", way, "--method", method]
                environment = {**os.environ, "KINETO_LOG_LEVEL": "5"}  # the profiler's own notes
                done = subprocess.run(
                    [*command, "--calls", str(arguments.calls)], check=True, stdout=subprocess.PIPE, env=environment
                )
                found = {what: value / 1e6 for what, value in json.loads(done.stdout.splitlines()[-1]).items()}
                print(
                    f"{name}, {method}, {way}: arena {found['arena']:.1f} MB, all tensors {found['tensors']:.1f} MB; "
                    f"each execution takes {found['beside']:.2f} MB beside, {found['faults'] * 1e6:.0f} page faults"
                )


if __name__ == "__main__":
    main()
