"""How the CUDA runtime times: unrolled, with cold or warm memory, with and without graphs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from conformance import stage_of
from host_gpu import FACTS, HostGpu
from host_kernels import needs_compiler
from host_runtime import host_runtime, pair_stage
from numerics_cases import random_inputs, relative_error, stage_weights

from iosfarm.ir.plan import PlanScope
from iosfarm.kernels.cuda.device.gpu import Graph as CudaGraph
from iosfarm.kernels.cuda.device.gpu import Stream
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_stage

pytestmark = needs_compiler


def test_short_stages_are_unrolled_with_other_weights_each_time() -> None:
    gpu = HostGpu(tick=20e-6, facts=replace(FACTS, l2=2**14))
    with closing(host_runtime(gpu)) as runtime, runtime.prepare(pair_stage()) as executable:
        one = len(executable.bound.parameters)
        times = executable.time(2)
        # Two kernels of 20 µs: five executions make the 200 µs that a replay lasts at least.
        sets = executable.bound.parameters
        assert (one, len(sets)) == (1, 5)
        assert len({address for each in sets for address in each}) == 5 * len(sets[0])
        assert times == pytest.approx([40e-6] * 2, rel=0.01)


class Watched(HostGpu):
    """Remembers which memory was filled, and when kernels were launched on which."""

    def __init__(self) -> None:
        super().__init__(tick=20e-6, facts=replace(FACTS, l2=2**14))
        self.seen: list[tuple[str, object]] = []

    def fill(self, address: int, byte: int, size: int, stream: Stream) -> None:
        super().fill(address, byte, size, stream)
        self.seen.append(("fill", size))

    def launch_graph(self, graph: CudaGraph, stream: Stream) -> None:
        super().launch_graph(graph, stream)
        self.seen.append(("replay", None))


@pytest.mark.parametrize("given", [False, True])
def test_cold_executions_touch_memory_of_their_own_after_the_cache_was_emptied(given: bool) -> None:
    gpu = Watched()
    stage = pair_stage()
    rng = np.random.default_rng(0)
    weights, inputs = (stage_weights(stage, rng) if given else None), random_inputs(stage.inputs, rng)
    with closing(host_runtime(gpu, "&inputs=cold")) as runtime, runtime.prepare(stage, weights) as executable:
        assert runtime.fingerprint()[1].hard["timing"] == "graph, cold inputs"
        executable.run(*inputs)
        times = executable.time(3)
        assert times == pytest.approx([40e-6] * 3, rel=0.01)
        arenas, sets = executable.bound.arenas, executable.bound.parameters
        assert len(set(arenas)) == len(sets) == 5
        assert len({address for each in sets for address in each}) == 5 * len(sets[0])
        gpu.seen.clear()
        executable.time(2)
        assert gpu.seen == [("fill", 2**15), ("replay", None)] * 2
        # Each execution has the inputs: with the same weights all computed the same.
        (output, *_), values = executable.bound.form.program.outputs, executable.bound.form.program.values
        places = [executable.bound.address(output, turn) for turn in range(5)]
        contents = {gpu.download(place, values[output].size).tobytes() for place in places}
        if given:
            assert len(contents) == 1
            for actual, wanted in zip(executable.run(*inputs), run_stage(stage, weights, inputs), strict=True):
                assert relative_error(actual, wanted) <= 1e-5


def test_cold_executions_without_room_are_fewer() -> None:
    gpu = HostGpu(tick=20e-6)
    with closing(host_runtime(gpu, "&inputs=cold")) as runtime, runtime.prepare(pair_stage()) as executable:
        executable.run()
        taken = gpu.allocate(gpu.memory_free() - 2 * gpu.facts.l2 - 40_000)
        assert executable.time(2) == pytest.approx([40e-6] * 2, rel=0.01)
        assert 1 <= len(executable.bound.arenas) < 5
        gpu.release(taken)


def test_long_stages_are_not_unrolled(gpu: HostGpu, runtime: CudaRuntime) -> None:
    with runtime.prepare(pair_stage()) as executable:
        gpu.launched.clear()
        assert executable.time(3) == pytest.approx([2e-3] * 3, rel=0.01)
        assert len(executable.bound.parameters) == 1


def test_given_weights_are_there_once() -> None:
    gpu = HostGpu(tick=1e-6)
    stage = pair_stage()
    weights = stage_weights(stage, np.random.default_rng(0))
    with closing(host_runtime(gpu)) as runtime, runtime.prepare(stage, weights) as executable:
        executable.time(1)
        assert len(executable.bound.parameters) == 1


def test_numbers_are_the_same_after_timing(runtime: CudaRuntime) -> None:
    rng = np.random.default_rng(1)
    stage = stage_of([["wide"], ["squeeze", "deep"]], "concurrent", "nhwc")
    weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
    expected = run_stage(stage, weights, inputs)
    with runtime.prepare(stage, weights) as executable:
        executable.time(2)
        for actual, wanted in zip(executable.run(*inputs), expected, strict=True):
            assert relative_error(actual, wanted) <= 1e-5


def test_streams_without_graphs_are_another_environment() -> None:
    with closing(host_runtime(HostGpu(), "&timing=streams")) as runtime, closing(host_runtime(HostGpu())) as graphs:
        assert runtime.fingerprint()[1].hard_key != graphs.fingerprint()[1].hard_key
        rng = np.random.default_rng(1)
        stage = pair_stage()
        weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
        with runtime.prepare(stage, weights) as executable:
            assert all(time > 0 for time in executable.time(3))
            actual = executable.run(*inputs)
        for a, e in zip(actual, run_stage(stage, weights, inputs), strict=True):
            assert relative_error(a, e) <= 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(runtime: CudaRuntime, dtype: str) -> None:
    rng = np.random.default_rng(2)
    stage = pair_stage(dtype)
    weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
    with runtime.prepare(stage, weights) as executable:
        actual = executable.run(*inputs)
    for a, e in zip(actual, run_stage(stage, weights, inputs), strict=True):
        assert 0 < relative_error(a, e) <= 1e-2


def test_what_was_chosen_is_kept(tmp_path: object) -> None:
    folder = tmp_path  # type: ignore[assignment]
    for run in range(2):
        gpu = HostGpu(seed=run)
        plans = PlanCache(folder, PlanScope("a GPU"))  # type: ignore[arg-type]
        with closing(host_runtime(gpu, plans=plans, most=2)) as runtime, runtime.prepare(pair_stage()):
            # The first time, candidates are timed; then nothing has to run to prepare.
            assert bool(gpu.launched) == (run == 0)
