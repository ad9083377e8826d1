"""Memory of the CPU runtime: planned once, never two values in one place at a time, and nothing taken beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.kernels.cpu.arena import ALIGNMENT, Arena, place
from iosfarm.kernels.cpu.operators import concatenation, convolution, pooling, sums
from iosfarm.kernels.cpu.operators.concatenation import Concatenation
from iosfarm.kernels.cpu.operators.onednn import PACKAGE, onednn
from iosfarm.kernels.cpu.operators.out_functions import ELEMENTWISE, prepared_elementwise
from iosfarm.kernels.cpu.operators.prepared import Prepared, Source, Step, Values
from iosfarm.kernels.cpu.parts import Part
from iosfarm.kernels.cpu.program import Operation, StageProgram, with_liveness
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.reference import run_graph, run_stage
from iosfarm.kernels.torch_operators import bind

from conformance import block, greedy, merging, sequential  # isort: skip - of the folder above
from numerics_cases import graph_weights, random_inputs, relative_error, stage_weights  # isort: skip

IMAGE = (1, 4, 2, 2)
needs_onednn = pytest.mark.skipif(onednn() is None, reason=f"{PACKAGE} is not installed")


@dataclass
class Marking:
    """Fills its result with its number, after it has seen that its sources have theirs. wanted: of each source."""

    number: int
    wanted: Sequence[int]
    scratch: int = 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        raise AssertionError("it has a place")

    def step(self, sources: Sequence[Source], result: Tensor, scratch: Tensor | None) -> Step:
        def step(values: Values) -> None:
            if scratch is not None:
                assert scratch.numel() >= self.scratch
                scratch.fill_(255)
            for source, wanted in zip(sources, self.wanted, strict=True):
                tensor = values[source.slot]
                assert tensor is not None
                assert tensor.eq(wanted).all()
            result.fill_(self.number)

        return step

    def into_part(self, pitch: int) -> Prepared:
        return self


def marked(number: int, wanted: Sequence[int]) -> Callable[..., Tensor]:
    """The same for what makes its own result; alone with what it reads, it hands on a view of it."""

    def function(*inputs: Tensor) -> Tensor:
        assert all(tensor.eq(mark).all() for tensor, mark in zip(inputs, wanted, strict=True))
        return inputs[0].view_as(inputs[0]) if len(inputs) == 1 else torch.full(IMAGE, float(number))

    return function


def random_program(seed: int, stages: int) -> tuple[list[StageProgram], list[int], dict[int, int], int]:
    """Stages of groups of operations of all kinds; slots to keep; the mark of each slot; how many there are. Slot 0 is
    an input.
    """
    rng = random.Random(seed)
    marks, programs, slots = {0: 0}, [], 1
    before = [0]
    for _ in range(stages):
        groups, reads, made = [], set(), []
        for _ in range(rng.randint(1, 3)):
            group, visible = [], list(before)
            for _ in range(rng.randint(1, 4)):
                sources = tuple(rng.choice(visible) for _ in range(rng.randint(1, 3)))
                wanted, scratch = [marks[s] for s in sources], rng.choice([0, 0, 100])
                kind = rng.choice(["placed", "placed", "own", "divided", "joined"])
                reads |= set(sources)
                if kind == "joined":
                    # Two parts, one of them perhaps where it belongs, and the whole; all marked alike.
                    whole, mark = slots + 2, slots
                    for number in range(2):
                        part = Part(whole, 4 * number, 8) if rng.random() < 0.7 else None
                        compute = Marking(mark, wanted, scratch)
                        group.append(Operation(compute, sources, (slots + number,), IMAGE, (0,), inside=part))
                    joined = Concatenation(1, [IMAGE, IMAGE], torch.float32)
                    group.append(Operation(joined, (slots, slots + 1), (whole,), (1, 8, 2, 2), (0,)))
                    targets = [whole]
                    marks |= {slots: mark, slots + 1: mark, whole: mark}
                    slots += 3
                elif kind == "divided":
                    targets = [slots, slots + 1]
                    compute = Marking(slots, wanted, scratch)
                    group.append(Operation(compute, sources, tuple(targets), (1, 8, 2, 2), (0,), (4, 4)))
                    marks |= {slots: slots, slots + 1: slots}
                    slots += 2
                else:
                    own = kind == "own"
                    mark = marks[sources[0]] if own and len(sources) == 1 else slots
                    function = marked(mark, wanted) if own else Marking(mark, wanted, scratch)
                    group.append(Operation(function, sources, (slots,), IMAGE, (0,)))
                    marks[slots] = mark
                    targets = [slots]
                    slots += 1
                visible += targets
                made += targets
            groups.append(tuple(group))
        writes = frozenset(target for group in groups for operation in group for target in operation.targets)
        programs.append(StageProgram(tuple(groups), frozenset(reads), writes))
        before += made
    return programs, rng.sample(before, k=min(3, len(before))), marks, slots


def execute(arena: Arena, rng: random.Random) -> Values:
    """In an order that streams could have taken."""
    values: Values = list(arena.places)
    values[0] = torch.zeros(IMAGE)
    for stage in arena.stages:
        left = [list(group) for group in stage.groups]
        while any(left):
            rng.choice([group for group in left if group]).pop(0)(values)
        for slot in stage.dead:
            values[slot] = None
    return values


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_no_value_is_overwritten_while_it_is_needed(seed: int, stages: int) -> None:
    programs, kept, marks, slots = random_program(seed, stages)
    arena = place(with_liveness(programs, kept), slots, kept, torch.float32)
    for order in range(3):
        values = execute(arena, random.Random(order))
        for slot in kept:
            tensor = values[slot]
            assert tensor is not None
            assert tensor.eq(marks[slot]).all()
    assert all(p.data_ptr() % ALIGNMENT == 0 for p in arena.places if p is not None and p.is_contiguous())


def test_a_plan_that_forgets_a_reader_is_found_out() -> None:
    """The property above can fail: nobody keeps what is read at the end."""
    wrong = 0
    for seed in range(30):
        programs, kept, marks, slots = random_program(seed, 6)
        arena = place(with_liveness(programs, kept), slots, (), torch.float32)
        values = execute(arena, random.Random(0))
        wrong += any(not torch.all(torch.eq(values[slot], marks[slot])) for slot in kept if values[slot] is not None)
    assert wrong


def chain(length: int) -> Graph:
    """Convolutions in a row."""
    b = GraphBuilder("chain")
    x = b.input((8, 16, 16))
    for _ in range(length):
        x = b.conv2d(x, 8, 3, padding=1)
    return b.build(x)


def test_a_chain_needs_two_tensors_however_long_it_is() -> None:
    sizes = []
    with closing(CpuRuntime()) as runtime:
        for length in (4, 12):
            graph = chain(length)
            weights = graph_weights(graph, np.random.default_rng(0))
            with runtime.prepare_schedule(graph, sequential(graph), weights) as executable:
                sizes.append(executable.arena_bytes)
    assert sizes[0] == sizes[1]
    assert sizes[0] >= 2 * 8 * 16 * 16 * 4


def taken(step: Callable[[], object]) -> int:
    """Bytes that torch takes from the system in one call."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    return sum(max(0, event.self_cpu_memory_usage) for event in profile.events())


@pytest.mark.parametrize("kind", [*ELEMENTWISE, "add", "mul", "concat"])
def test_what_can_be_told_where_to_write_takes_no_memory(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    count = 2 if kind in ("add", "mul", "sub", "div", "concat") else 1
    shape = (1, 16, 9, 9)
    result_shape = (1, 16 * count, 9, 9) if kind == "concat" else shape
    images = [
        torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last) for _ in range(count)
    ]
    function = bind(kind, {}, {})
    prepared = prepared_elementwise(kind, {}, [shape] * count, result_shape, function, torch.float32)
    assert prepared is not None
    whole = torch.zeros(1, 64, 9, 9).contiguous(memory_format=torch.channels_last)
    part = prepared.into_part(64)
    assert part is not None
    dense = torch.zeros(result_shape).contiguous(memory_format=torch.channels_last)
    for compute, result in ((prepared, dense), (part, whole[:, 32 : 32 + result_shape[1]])):
        with torch.inference_mode():
            scratch = torch.empty(compute.scratch, dtype=torch.uint8) if compute.scratch else None
            step = compute.step([Source(k) for k in range(count)], result, scratch)
            assert taken(lambda s=step: s(list(images))) == 0
        expected = function(*[image.double() for image in images])
        assert (result - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert whole[:, :32].eq(0).all()
    assert whole[:, 32 + result_shape[1] :].eq(0).all()


@needs_onednn
def test_a_network_takes_no_memory_in_a_call() -> None:
    b = GraphBuilder("fire")
    x = b.max_pool(b.conv2d(b.input((3, 33, 33)), 16, 3, stride=2, activation="relu"), 3, stride=2)
    for _ in range(3):
        squeezed = b.conv2d(x, 8, 1, activation="relu")
        joined = b.concat(b.conv2d(squeezed, 8, 1), b.conv2d(squeezed, 8, 3, padding=1))
        x = b.mul(b.add(x, joined, activation="relu"), b.activation(b.avg_pool(x, 3, stride=1, padding=1), "sigmoid"))
    graph = b.build(x)
    with closing(CpuRuntime()) as runtime:
        weights = graph_weights(graph, np.random.default_rng(0))
        for schedule in (sequential(graph), greedy(graph)):
            with runtime.prepare_schedule(graph, schedule, weights) as executable:
                run = executable._execute
                used = executable._streams.home.call(lambda e=executable, r=run: taken(lambda: r(e._fresh())))
                assert used == 0


def test_what_one_unit_concatenates_is_written_where_it_belongs() -> None:
    b = GraphBuilder("cell")
    x, y, z = (b.input((8, 6, 6)) for _ in range(3))
    with b.unit("cell"):
        sums = [b.add(x, y, activation="relu"), b.add(y, z), b.add(x, x, z)]
        joined = b.concat(*sums, b.conv2d(z, 5, 1), b.conv2d(y, 4, 3, padding=1))
    graph = b.build(joined)
    stage = canonical_stage(graph, [[0]], layout="nhwc").stage
    rng = np.random.default_rng(0)
    weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
    with closing(CpuRuntime()) as runtime, runtime.prepare(stage, weights) as executable:
        (actual,) = executable.run(*inputs)
        inside = [p for p in executable._places if p is not None and p.dim() == 4 and p.stride(3) == 33]
        assert len(inside) == (5 if onednn() is not None else 4)  # the whole, three sums and the convolution of pixels
    (expected,) = run_stage(stage, weights, inputs)
    assert relative_error(actual, expected) <= 1e-5


def test_without_onednn_the_same_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions, merged ones too, then make results of their own, or torch writes them into their places."""
    for module in (concatenation, convolution, pooling, sums):
        monkeypatch.setattr(module, "onednn", lambda: None)
    graph, rng = block(), np.random.default_rng(0)
    weights, inputs = graph_weights(graph, rng), random_inputs(((1, 8, 14, 14),), rng)
    expected = run_graph(graph, weights, inputs)
    with closing(CpuRuntime()) as runtime:
        for schedule in (sequential(graph), greedy(graph), merging(graph)):
            with runtime.prepare_schedule(graph, schedule, weights) as executable:
                for _ in range(2):
                    for actual, wanted in zip(executable.run(*inputs), expected, strict=True):
                        assert relative_error(actual, wanted) <= 1e-5
