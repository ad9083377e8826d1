"""What the CUDA runtime puts into graphs: forms of a schedule, memory; and that a mistake there is found."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from conformance import SCHEDULES, block, greedy, merging
from host_gpu import FACTS, HostGpu
from host_kernels import HostError, needs_compiler
from host_runtime import host_runtime, pair_stage, small
from numerics_cases import graph_weights, random_inputs, relative_error

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import DeviceLost, Infeasible
from iosfarm.ir.key import canonical_stage
from iosfarm.kernels.cuda import runtime as runtime_module
from iosfarm.kernels.cuda.device.errors import translated
from iosfarm.kernels.cuda.execution.form import Form, form_of
from iosfarm.kernels.cuda.program.dependencies import ancestors
from iosfarm.kernels.cuda.program.forms import FORMS
from iosfarm.kernels.cuda.program.lanes import Placement
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_graph

pytestmark = needs_compiler


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
