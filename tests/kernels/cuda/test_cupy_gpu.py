"""The file that talks to CuPy, on a stand-in for it: a runtime on the second of two GPUs, from several threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import stand_in_cupy
from conformance import block, greedy
from host_kernels import needs_compiler
from numerics_cases import graph_weights, random_inputs, relative_error

from iosfarm.ir.errors import DeviceLost
from iosfarm.ir.plan import PlanScope
from iosfarm.kernels.cuda.execution.lane import Lanes
from iosfarm.kernels.cuda.options import parse_spec
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.providers.trials import Trials
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_graph

pytestmark = needs_compiler


@pytest.fixture
def open_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Any]]:
    """`CupyGpu` on the stand-in."""
    import iosfarm.kernels.cuda.device as package

    stand_in_cupy.reset()
    for name, module in {
        "cupy": stand_in_cupy,
        "cupy.cuda": stand_in_cupy.cuda,
        "cupy.cuda.runtime": stand_in_cupy.runtime,
        "cupy.cuda.driver": stand_in_cupy.driver,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "iosfarm.kernels.cuda.device.cupy_gpu", raising=False)
    monkeypatch.delattr(package, "cupy_gpu", raising=False)
    yield import_module("iosfarm.kernels.cuda.device.cupy_gpu").CupyGpu
    sys.modules.pop("iosfarm.kernels.cuda.device.cupy_gpu", None)


def runtime_on(gpu: Any, options: str = "") -> CudaRuntime:
    lanes = Lanes(gpu)
    trials = Trials(gpu, lanes.home, PlanCache(None, PlanScope("")), 1)
    return CudaRuntime(gpu, lanes, None, trials, parse_spec(f"cuda?provider=iosfarm{options}"))


def in_a_thread(work: Callable[[], object]) -> None:
    """In a new thread, whose current device is the first one; what goes wrong there goes wrong here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("options", ["", "&timing=streams"])
def test_a_network_on_the_second_gpu_from_any_thread(open_gpu: Callable[[int], Any], options: str) -> None:
    graph = block()
    rng = np.random.default_rng(3)
    weights, inputs = graph_weights(graph, rng), random_inputs((graph.shape(graph.inputs[0].name),), rng)
    expected = run_graph(graph, weights, inputs)
    gpu = open_gpu(1)
    assert (gpu.facts.name, gpu.facts.index, gpu.facts.clock) == ("Host 1", 1, 1.98e9)
    with closing(runtime_on(gpu, options)) as runtime:
        whole = runtime.prepare_schedule(graph, replace(greedy(graph), form="free-critical"), weights)

        def use() -> None:
            for actual, wanted in zip(whole.run(*inputs), expected, strict=True):
                assert relative_error(actual, wanted) <= 1e-5
            assert all(seconds > 0 for seconds in whole.time(2))
            assert whole.trace()

        use()
        in_a_thread(use)
        stand_in_cupy.runtime.setDevice(0)  # as another library may in this thread
        use()
        in_a_thread(whole.close)
    assert [device.in_use for device in stand_in_cupy.devices] == [0, 0]


def test_a_gpu_that_is_gone_is_told(open_gpu: Callable[[int], Any]) -> None:
    with pytest.raises(DeviceLost, match="no GPU 2 any more"):
        open_gpu(2)


def test_memory_that_is_not_there_is_a_memory_error(open_gpu: Callable[[int], Any]) -> None:
    gpu = open_gpu(0)
    with pytest.raises(MemoryError, match="128 MiB"):
        gpu.allocate(2**27)
    gpu.close()


def test_errors_of_the_library_say_what_they_mean(open_gpu: Callable[[int], Any]) -> None:
    gpu = open_gpu(0)
    stream = gpu.stream()
    stand_in_cupy.devices[0].broken = stand_in_cupy.CUDARuntimeError(700)
    with pytest.raises(DeviceLost, match="memory that is not its own"):
        gpu.synchronize(stream)
    stand_in_cupy.devices[0].broken = None
    gpu.close()
