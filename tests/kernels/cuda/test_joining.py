"""Concatenations without copies: the right numbers, fewer kernels, and only where it is allowed and pays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pytest
from conformance import SCHEDULES, block
from host_gpu import FACTS, HostGpu
from host_kernels import needs_compiler
from host_runtime import host_runtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numerics_cases import graph_weights, random_inputs, relative_error
from program_examples import NoCall

import iosfarm
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.plan import PlanScope
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels.cuda.catalogue.part import Part
from iosfarm.kernels.cuda.device.gpu import Kernel
from iosfarm.kernels.cuda.joining import joined
from iosfarm.kernels.cuda.program.steps import Call, Into, Program, Step, Value
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_graph
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut
from iosfarm.workers.random_weights import random_weights

TOLERANCES = {"float32": 1e-5, "bfloat16": 1e-2}
FREE = "free-critical"
COPIED = {"squeezenet": 0, "inception_v3": 0, "nasnet_large": 22}
"""Tensors that are copied into concatenations all the same: others read them."""


def branches() -> Graph:
    """Every kind of writer that can write to a part, of odd numbers of channels and even ones; two that cannot."""
    b = GraphBuilder("branches")
    x = b.input((12, 9, 7))
    with b.unit():
        apart = b.conv2d(b.depthwise(b.relu(x), 3, padding=1), 5, 1)
    with b.unit():
        summed = b.add(b.conv2d(x, 12, 1), x, activation="relu")
    whole = b.concat(
        b.conv2d(x, 8, 3, padding=1, activation="relu"),
        b.max_pool(x, 3, stride=1, padding=1),
        apart,
        b.conv2d(x, 12, 5, padding=2, groups=12, activation="silu"),
        b.add(x, b.conv2d(x, 12, 1)),
        summed,
        b.activation(b.avg_pool(x, 3, stride=1, padding=1), "tanh"),
        b.slice(x, 3, 7),
        b.conv2d(x, 8, 3, padding=1, groups=4),
        x,  # is handed in
        b.softmax(x, axis=1),  # has no kernel for it
    )
    return b.build(b.conv2d(whole, 6, 1))


def free(graph: Graph, schedule: Schedule | None = None) -> Schedule:
    return replace(schedule or sequential(graph, cut(graph), "nhwc"), form=FREE)


def run(runtime: CudaRuntime, graph: Graph, schedule: Schedule) -> tuple[float, Program]:
    """Error against float64, and what ran."""
    rng = np.random.default_rng(1)
    weights, inputs = graph_weights(graph, rng), random_inputs([graph.shape(i.name) for i in graph.inputs], rng)
    expected = run_graph(graph, weights, inputs)
    with runtime.prepare_schedule(graph, schedule, weights) as whole:
        pairs = list(zip(whole.run(*inputs), expected, strict=True))
        program = whole.bound.form.program
    return max(relative_error(actual, wanted) for actual, wanted in pairs), program


@needs_compiler
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_every_writer_writes_to_its_part(dtype: str) -> None:
    graph = branches().bind(dtype=dtype, batch=2)
    gpu = HostGpu()
    with closing(host_runtime(gpu)) as runtime:
        error, program = run(runtime, graph, free(graph))
    assert error <= TOLERANCES[dtype]
    # Only what is handed in and what has no such kernel is copied.
    (rest,) = [step for step in program.steps if step.joins]
    assert len(rest.reads) == 2
    assert gpu.in_use == 0


class NothingRuns(HostGpu):
    """Compiles nothing and has memory for everything."""

    def __init__(self) -> None:
        super().__init__(facts=replace(FACTS, memory=2**36))

    def compile(self, source: str, options: Sequence[str], name: str) -> Kernel:
        return Kernel(name)

    def memory_free(self) -> int:
        return 2**36


@pytest.mark.parametrize("name", COPIED)
def test_networks_copy_next_to_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = iosfarm.load(name)
    programs: list[Program] = []
    monkeypatch.setattr(CudaRuntime, "_executable", lambda _, form, *rest: programs.append(form.program))
    with closing(host_runtime(NothingRuns())) as runtime:
        schedule = sequential(graph, cut(graph), "nhwc")
        for each in (schedule, free(graph, schedule)):
            runtime.prepare_schedule(graph, each, random_weights(graph))
    before, after = [sum(len(step.reads) for step in p.steps if step.joins) for p in programs]
    assert before == sum(len(o.inputs) for o in graph.operators if o.kind == "concat")
    assert after == COPIED[name]


@needs_compiler
def test_what_others_read_stays_apart() -> None:
    b = GraphBuilder("read twice")
    x = b.input((4, 5, 5))
    one, other = b.conv2d(x, 4, 3, padding=1), b.conv2d(x, 4, 1)
    twice = b.conv2d(x, 4, 1)
    handed = b.conv2d(x, 4, 1)
    whole = b.concat(one, other, twice, twice, handed)
    graph = b.build(whole, b.relu(one), handed)
    with closing(host_runtime(HostGpu())) as runtime:
        error, program = run(runtime, graph, free(graph))
    assert error <= 1e-5
    (rest,) = [step for step in program.steps if step.joins]
    assert len(rest.reads) == 4  # all but `other`


@needs_compiler
def test_what_is_concatenated_under_another_shape_is_copied() -> None:
    """A view has the memory of what it views, whose channels are others."""
    b = GraphBuilder("viewed")
    x = b.input((4, 2, 3))
    viewed = b.operator("reshape", [b.conv2d(x, 1, 1)], shape=(-1, 6, 1, 1))
    graph = b.build(b.concat(viewed, b.conv2d(b.global_avg_pool(x), 2, 1)))
    with closing(host_runtime(HostGpu())) as runtime:
        error, program = run(runtime, graph, free(graph))
    assert error <= 1e-5
    assert [len(step.reads) for step in program.steps if step.joins] == [2]


@needs_compiler
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_merged_convolutions_are_cut_into_the_concatenation(name: str) -> None:
    graph = block()
    with closing(host_runtime(HostGpu(seed=3))) as runtime:
        error, program = run(runtime, graph, free(graph, SCHEDULES[name](graph)))
    assert error <= 1e-5
    assert not any(step.joins for step in program.steps)


@needs_compiler
def test_what_was_timed_is_kept() -> None:
    graph = block()
    plans = PlanCache(None, PlanScope(""))
    steps = []
    for seed in range(2):
        gpu = HostGpu(seed=seed)
        with closing(host_runtime(gpu, plans=plans, most=2)) as runtime:
            weights = graph_weights(graph, np.random.default_rng(0))
            with runtime.prepare_schedule(graph, free(graph), weights) as whole:
                steps.append([(step.call.name, step.writes) for step in whole.bound.form.program.steps])
            # The first time, calls are timed; then nothing has to run to prepare.
            assert bool(gpu.launched) == (seed == 0)
    assert steps[0] == steps[1]


@needs_compiler
def test_between_barriers_stays_what_was_measured() -> None:
    graph = branches()
    with closing(host_runtime(HostGpu())) as runtime:
        _, program = run(runtime, graph, sequential(graph, cut(graph), "nhwc"))
    (whole,) = [step for step in program.steps if step.joins]
    assert len(whole.reads) == 11


# -- what pays -------------------------------------------------------------------------------------------------------


@dataclass
class MadeUp:
    """Calls whose times are made up. parts: of those that write to a part, by number of channels."""

    apart: float
    parts: dict[int, float]
    copying: float
    timed: bool = True

    def seconds(self, key: str, call: Call, reads: object, writes: object) -> float | None:
        if key.startswith('["concat"'):
            return self.copying
        return self.parts[int(call.name)] if call.name != "nothing" else self.apart

    def rest(self, shapes: object, firsts: object, output: object, dtype: str) -> Call:
        return NoCall("rest")


def concatenation(channels: list[int]) -> Program:
    """Steps that each write one tensor of so many channels, and their concatenation."""
    shapes = [(1, c, 1, 1) for c in channels]
    values = [Value(shape, 4 * shape[1]) for shape in [(1, 1, 1, 1), *shapes, (1, sum(channels), 1, 1)]]
    steps = []
    for number, count in enumerate(channels, 1):
        into = Into(f"step {number}", lambda part, c=count: NoCall(str(c)))  # type: ignore[misc]
        steps.append(Step(NoCall(), (0,), (number,), None, (), 0, 0, (number,), into))
    whole = len(values) - 1
    steps.append(Step(NoCall("concat"), tuple(range(1, whole)), (whole,), None, (), 0, 0, (0,), None, True))
    return Program(tuple(values), tuple(steps), (0,), (whole,), (values[whole].shape,))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True),
    st.floats(0, 10),
    st.lists(st.floats(0, 20), min_size=6, max_size=6),
    st.floats(0, 10),
)
def test_a_writer_moves_where_that_takes_no_longer_than_its_share_of_the_copy(
    channels: list[int], apart: float, parts: list[float], copying: float
) -> None:
    program = concatenation(channels)
    calls = MadeUp(apart, dict(zip(channels, parts, strict=False)), copying)
    result = joined(program, calls, "float32")  # type: ignore[arg-type]
    whole = program.outputs[0]
    for number, count in enumerate(channels):
        moved = result.steps[number].writes == (whole,)
        # The sum is made as it is there: what is equal must not differ by rounding.
        assert moved == (calls.parts[count] <= apart + copying / (4 * sum(channels)) * (4 * count))
    copied = [n + 1 for n, step in enumerate(result.steps[: len(channels)]) if step.writes != (whole,)]
    rest = [step.reads for step in result.steps if step.joins]
    assert rest == ([tuple(copied)] if copied else [])


def test_a_part_that_no_call_can_write_is_copied() -> None:
    program = concatenation([4, 6])
    refused = replace(program.steps[0], into=Into("step", lambda part: None if part == Part(10, 0) else NoCall("4")))
    program = replace(program, steps=(refused, *program.steps[1:]))
    result = joined(program, MadeUp(1.0, {6: 0.0}, 1.0, timed=False), "float32")  # type: ignore[arg-type]
    assert [step.writes for step in result.steps] == [(1,), (3,), (3,)]
    assert result.steps[-1].reads == (1,)


def test_another_call_has_scratch_memory_of_its_own() -> None:
    program = concatenation([4])
    wanting = replace(program.steps[0], into=Into("step", lambda _: NoCall("4", workspace=1000)))
    result = joined(replace(program, steps=(wanting, program.steps[1])), MadeUp(1, {4: 0}, 1), "float32")  # type: ignore[arg-type]
    (step,) = result.steps
    assert result.values[step.scratch or 0].size == 1000
