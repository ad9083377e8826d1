"""The benchmark of the CUDA kernels runs from end to end, on a GPU whose clock is the host's invention."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
from host_gpu import HostGpu
from host_kernels import needs_compiler

from iosfarm.kernels.cuda.execution.lane import Lanes


@pytest.fixture
def benchmark(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("cuda_kernels", root / "benchmarks" / "cuda_kernels.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@needs_compiler
def test_it_measures_and_tells(benchmark: ModuleType) -> None:
    gpu = HostGpu(tick=1e-3)
    movers = [mover for mover in benchmark.MOVERS if mover[0] in ("add of 2", "max_pool 3x3 stride 2")]
    with closing(Lanes(gpu)) as lanes:
        report = benchmark.measure(
            gpu,
            lanes.home,
            batch=1,
            size=4,
            rounds=2,
            dtypes=["float32"],
            movers=movers,
            convolutions=[(8, 4, 12, 3, 1, 1)],
        )
    pool, add = report.bandwidth
    assert (pool.kernel, pool.bytes_moved) == ("max_pool 3x3 stride 2", 4 * 256 * (16 + 4))
    assert (add.kernel, add.bytes_moved) == ("add of 2", 4 * 256 * 16 * 3)
    assert add.seconds == pytest.approx(1e-3, rel=0.01)
    (product,) = report.products
    assert report.left_out == 0
    assert product.convolution == "3x3 8→12 at 4x4, batch 1"
    assert product.cudnn is None
    text = "\n".join(benchmark.lines(report))
    assert "add of 2" in text
    assert "no cuDNN" in text
    assert json.loads(json.dumps(asdict(report)))["gpu"] == gpu.facts.name


def test_without_time_it_begins_nothing(benchmark: ModuleType) -> None:
    gpu = HostGpu()
    with closing(Lanes(gpu)) as lanes:
        report = benchmark.measure(gpu, lanes.home, batch=1, seconds=-1.0)
    assert (report.bandwidth, report.products) == ((), ())
    assert report.left_out == 2 * len(benchmark.MOVERS) + len(benchmark.CONVOLUTIONS)
    assert f"no time for {report.left_out} more" in "\n".join(benchmark.lines(report))
