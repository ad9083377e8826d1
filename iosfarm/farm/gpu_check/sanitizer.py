"""Our kernels under compute-sanitizer, where it is installed: no access outside of a buffer, no race, no stray read."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing, suppress

import numpy as np

from iosfarm.farm.gpu_check.context import Context
from iosfarm.farm.gpu_check.process import run_for
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOLDER = "/usr/local/cuda/bin"


def run(context: Context) -> None:
    """Each tool over the same kernels; a tool that does not finish in its share of the time says so."""
    program = shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), FOLDER]))
    if program is None:
        context.rows.add(skipped="compute-sanitizer is not installed")
        return
    for position, tool in enumerate(TOOLS):
        seconds = max(1.0, context.left / (len(TOOLS) - position) - 1)
        command = [program, "--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
        command += [sys.executable, "-m", "iosfarm.farm.gpu_check.sanitizer", context.spec(provider="iosfarm")]
        # Under these tools times mean nothing: what is chosen by them must not be kept for others.
        cache = {"XDG_CACHE_HOME": str((context.folder / "work" / "cache").resolve())}
        code, out, _ = run_for(command, seconds, environment=cache)
        if code is None:
            context.rows.add(tool=tool, clean=None, skipped=f"not done after {seconds:.0f} s", end=out[-500:])
        else:
            context.rows.add(tool=tool, clean=code == 0, code=code, end=out[-500:])


def network() -> Graph:
    """Odd sizes of every operator that has a kernel: edges of tiles, and what is left of vectors."""
    b = GraphBuilder("sanitized")
    x = b.input((7, 13, 11))
    y = b.conv2d(x, 19, 3, padding=1, activation="relu")
    y = b.add(y, b.conv2d(y, 19, 1), activation="silu")
    with b.unit():
        z = b.conv2d(b.depthwise(b.relu(y), 5, padding=2), 13, 1)
    pooled = [b.max_pool(y, 3, stride=1, padding=1), b.avg_pool(y, 3, stride=1, padding=1)]
    joined = b.concat(z, *pooled)
    scaled = b.mul(joined, b.activation(b.conv2d(b.global_avg_pool(joined), b.channels(joined), 1), "sigmoid"))
    return b.build(b.softmax(b.linear(b.flatten(b.max_pool(scaled, 2, stride=2)), 17)))


def execute(spec: str, dtypes: Sequence[str] = ("float32", "float16", "bfloat16")) -> None:
    """Every unit of the network once, in these dtypes."""
    from iosfarm.kernels import open_runtime

    with closing(open_runtime(spec)) as runtime:
        for dtype in dtypes:
            graph = network().bind(dtype=dtype, batch=2)
            for unit in range(len(graph.units)):
                stage = canonical_stage(graph, [[unit]], layout=runtime.layout).stage
                with suppress(Infeasible), runtime.prepare(stage) as executable:
                    assert all(np.isfinite(output).all() for output in executable.run())


if __name__ == "__main__":
    execute(sys.argv[1])
