"""Memory of a compiled model's calls on the CPU: pages that the system hands out anew, and what that costs.

    python benchmarks/memory.py [squeezenet inception_v3 randwire] [--calls 20] [--rounds 3]

torch's convolutions make their own results: their `out=` forms compute one and copy it. So what a call needs comes from
malloc, which gives large areas back to the system when they are free; each page is faulted in again by the next call.
glibc keeps them with MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_. Both ways run in turns, in processes of their
own, under the sequential schedule.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings

KEPT = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(256 << 20)}


def measure(name: str, calls: int) -> dict[str, float]:
    """Median seconds and mean page faults of a call."""
    import torch

    import iosfarm
    from iosfarm.kernels import open_runtime
    from iosfarm.search.baselines import sequential
    from iosfarm.search.parts import cut

    warnings.simplefilter("ignore")  # of random weights
    graph = iosfarm.load(name)
    runtime = open_runtime("cpu")
    layout = runtime.layout
    runtime.close()
    seconds = []
    with iosfarm.compile(graph, sequential(graph, cut(graph), layout), device="cpu") as model:
        x = torch.randn(graph.shape(graph.inputs[0].name))
        for _ in range(5):
            model(x)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(calls):
            begin = time.perf_counter()
            model(x)
            seconds.append(time.perf_counter() - begin)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"seconds": statistics.median(seconds), "faults": faults / calls}


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["squeezenet", "inception_v3", "randwire"])
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.networks[0], arguments.calls)))
        return
    page = resource.getpagesize()
    for name in arguments.networks:
        found: dict[str, list[dict[str, float]]] = {"as it is": [], "kept": []}
        for _ in range(arguments.rounds):
            for way, extra in (("as it is", {}), ("kept", KEPT)):
                command = [sys.executable, __file__, name, "--one", "--calls", str(arguments.calls)]
                done = subprocess.run(command, env={**os.environ, **extra}, check=True, stdout=subprocess.PIPE)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
        medians = {way: statistics.median(run["seconds"] for run in runs) for way, runs in found.items()}
        faults = {way: statistics.median(run["faults"] for run in runs) for way, runs in found.items()}
        words = [f"{way} {medians[way] * 1e3:.1f} ms, {faults[way] * page / 1e6:.1f} MB faulted in" for way in found]
        print(
            f"{name}: {'; '.join(words)} ({medians['as it is'] / medians['kept']:.2f}x), load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
