"""What the CUDA runtime puts into graphs: forms of a schedule, unrolling, memory; and that a mistake there is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from conformance import SCHEDULES, block, greedy, merging, stage_of
from host_gpu import FACTS, HostGpu
from host_kernels import HostError, needs_compiler
from host_runtime import host_runtime
from numerics_cases import graph_weights, random_inputs, relative_error, stage_weights

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import DeviceLost, Infeasible
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.plan import PlanScope
from iosfarm.ir.stage import Stage
from iosfarm.kernels.cuda import runtime as runtime_module
from iosfarm.kernels.cuda.device.errors import translated
from iosfarm.kernels.cuda.device.gpu import Graph as CudaGraph
from iosfarm.kernels.cuda.device.gpu import Stream
from iosfarm.kernels.cuda.execution.form import Form, form_of
from iosfarm.kernels.cuda.program.dependencies import ancestors
from iosfarm.kernels.cuda.program.forms import FORMS
from iosfarm.kernels.cuda.program.lanes import Placement
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_graph, run_stage

pytestmark = needs_compiler


@pytest.fixture
def gpu() -> HostGpu:
    return HostGpu()


@pytest.fixture
def runtime(gpu: HostGpu) -> Iterator[CudaRuntime]:
    with closing(host_runtime(gpu)) as runtime:
        yield runtime


def small(channels: int = 4) -> Graph:
    """Two convolutions beside each other, their sum."""
    b = GraphBuilder("small")
    x = b.input((channels, 5, 5))
    return b.build(b.add(b.conv2d(x, 4, 3, padding=1), b.conv2d(x, 4, 1), activation="relu"))


def pair_stage(dtype: str = "float32") -> Stage:
    return canonical_stage(small().bind(dtype=dtype), [[0], [1]], layout="nhwc").stage


# -- forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["greedy", "mixing"])
def test_every_form_computes_the_same_in_every_order(form: str, name: str) -> None:
    graph = block()
    rng = np.random.default_rng(3)
    weights, inputs = graph_weights(graph, rng), random_inputs((graph.shape(graph.inputs[0].name),), rng)
    expected = run_graph(graph, weights, inputs)
    schedule = replace(SCHEDULES[name](graph), form=form)
    with closing(host_runtime(HostGpu(seed=5))) as runtime, runtime.prepare_schedule(graph, schedule, weights) as whole:
        for _ in range(3):  # each in another order
            for actual, wanted in zip(whole.run(*inputs), expected, strict=True):
                assert relative_error(actual, wanted) <= 1e-5


def test_without_barriers_a_step_waits_for_less(runtime: CudaRuntime) -> None:
    graph = block()
    weights = graph_weights(graph, np.random.default_rng(0))
    awaited = {}
    for form in ("stages", "free"):
        with runtime.prepare_schedule(graph, replace(merging(graph), form=form), weights) as whole:
            awaited[form] = sum(steps.bit_count() for steps in ancestors(whole.bound.form.dependencies))
    assert awaited["free"] < awaited["stages"]


def test_a_form_that_is_not_known_runs_stage_after_stage(runtime: CudaRuntime) -> None:
    graph = small()
    weights = graph_weights(graph, np.random.default_rng(0))
    with runtime.prepare_schedule(graph, replace(greedy(graph), form="later"), weights) as whole:
        assert whole.run()[0].shape == (1, 4, 5, 5)


# -- mistakes that have to be found --------------------------------------------------------------------------------


def wrong_for_some_order(monkeypatch: pytest.MonkeyPatch, spoil: object) -> bool:
    """Whether a spoilt form computes something wrong in one of a few random orders."""
    monkeypatch.setattr(runtime_module, "form_of", lambda *of: spoil(form_of(*of)))  # type: ignore[operator]
    graph = block()
    rng = np.random.default_rng(3)
    weights, inputs = graph_weights(graph, rng), random_inputs((graph.shape(graph.inputs[0].name),), rng)
    expected = run_graph(graph, weights, inputs)
    with closing(host_runtime(HostGpu(seed=1))) as runtime:
        whole = runtime.prepare_schedule(graph, greedy(graph), weights)
        for _ in range(6):
            actual = whole.run(*inputs)
            if any(relative_error(a, e) > 1e-5 for a, e in zip(actual, expected, strict=True)):
                return True
    return False


def test_a_missing_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(form: Form) -> Form:
        lanes = form.placement.lane
        last = {lane: step for step, lane in enumerate(lanes)}
        ends = tuple(step for lane, step in last.items() if lane)
        nobody: tuple[tuple[int, ...], ...] = ((),) * len(lanes)
        return replace(form, placement=Placement(lanes, nobody, frozenset(ends), ends))

    assert wrong_for_some_order(monkeypatch, forget)


def test_values_in_the_same_place_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def squeeze(form: Form) -> Form:
        kept = {*form.program.inputs, *form.program.outputs}
        offsets = tuple(o if v in kept else min(o, 512) for v, o in enumerate(form.memory.offsets))
        return replace(form, memory=replace(form.memory, offsets=offsets))

    assert wrong_for_some_order(monkeypatch, squeeze)


def test_the_right_form_is_never_found_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not wrong_for_some_order(monkeypatch, lambda form: form)


def test_a_stream_that_is_not_joined_is_refused(gpu: HostGpu) -> None:
    one, other = gpu.stream(), gpu.stream()
    memory = gpu.allocate(8)
    gpu.begin_capture(one)
    event = gpu.event()
    gpu.record(event, one)
    gpu.wait(other, event)
    gpu.fill(memory, 0, 8, other)
    with pytest.raises(HostError, match="has not joined"):
        gpu.end_capture(one)


def test_waiting_on_the_host_while_capturing_is_refused(gpu: HostGpu) -> None:
    stream = gpu.stream()
    gpu.begin_capture(stream)
    with pytest.raises(HostError, match="captures"):
        gpu.synchronize(stream)


def test_what_is_dropped_while_a_graph_is_captured_is_closed_afterwards(gpu: HostGpu, runtime: CudaRuntime) -> None:
    """As the garbage collector may have it."""
    before = gpu.in_use
    dropped = runtime.prepare(pair_stage())
    dropped.run()
    stream = dropped.bound.lanes[0].stream
    gpu.begin_capture(stream)
    dropped.close()
    gpu.end_capture(stream)
    with runtime.prepare(pair_stage()):
        pass
    pools = gpu.in_use - before
    runtime.prepare(pair_stage()).close()
    assert gpu.in_use - before == pools
    with pytest.raises(RuntimeError, match="closed"):
        dropped.run()


# -- timing --------------------------------------------------------------------------------------------------------


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


# -- what cannot be ------------------------------------------------------------------------------------------------


def test_dtype_that_the_device_lacks() -> None:
    old = replace(FACTS, name="Tesla T4", capability=(7, 5))
    with closing(host_runtime(HostGpu(facts=old))) as runtime, pytest.raises(Infeasible, match=r"T4.* has no bfloat16"):
        runtime.prepare(pair_stage("bfloat16"))


def test_tensor_too_large_for_32_bits() -> None:
    large = replace(FACTS, memory=2**50)
    graph = GraphBuilder("large")
    stage = canonical_stage(graph.build(graph.relu(graph.input((2**16, 2**16)))), [[0]], layout="nhwc").stage
    with closing(host_runtime(HostGpu(facts=large))) as runtime, pytest.raises(Infeasible, match="32 bits"):
        runtime.prepare(stage)


def test_memory_that_is_taken_just_now_is_no_property_of_the_stage(gpu: HostGpu, runtime: CudaRuntime) -> None:
    runtime.prepare(pair_stage()).close()
    taken = gpu.allocate(gpu.memory_free() - 1000)
    with pytest.raises(MemoryError):
        runtime.prepare(pair_stage())
    gpu.release(taken)
    runtime.prepare(pair_stage()).close()


def test_failed_preparation_gives_its_memory_back(gpu: HostGpu, runtime: CudaRuntime) -> None:
    runtime.prepare(pair_stage()).close()
    before = gpu.in_use
    taken = gpu.allocate(gpu.memory_free() - 2000)
    for _ in range(3):
        with pytest.raises(MemoryError):
            runtime.prepare(pair_stage())
    gpu.release(taken)
    assert gpu.in_use == before


class CudaError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"error {status}")
        self.status = status


@pytest.mark.parametrize(
    ("code", "kind"), [(700, DeviceLost), (719, DeviceLost), (999, DeviceLost), (2, MemoryError), (1, RuntimeError)]
)
def test_what_a_cuda_error_means(code: int, kind: type[Exception]) -> None:
    assert type(translated(CudaError(code))) is kind
    assert translated(ValueError("another")).args == ("another",)


def test_a_lost_device_is_told_and_everything_can_still_be_closed(gpu: HostGpu) -> None:
    runtime = host_runtime(gpu)
    executable = runtime.prepare(pair_stage())
    gpu.broken = translated(CudaError(700))
    with pytest.raises(DeviceLost, match="memory that is not its own"):
        executable.run()
    with pytest.raises(DeviceLost):
        executable.time(1)
    with pytest.raises(DeviceLost):
        runtime.prepare(pair_stage())
    executable.close()
    runtime.close()
