"""The CPU runtime against the contract, and what is its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
import torch

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.stage import Stage
from iosfarm.kernels.cpu import machine
from iosfarm.kernels.cpu.program import StageProgram, merged_parameters, with_liveness
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.cpu.streams import Streams
from iosfarm.kernels.cpu.weights import RandomTensors
from iosfarm.kernels.reference import run_stage

from conformance import STAGES, RuntimeConformance, block, merging, stage_of  # isort: skip - of the folder above
from numerics_cases import graph_weights, random_inputs, relative_error, stage_weights  # isort: skip


class TestCpuRuntime(RuntimeConformance):
    @pytest.fixture
    def runtime(self) -> Iterator[CpuRuntime]:
        with closing(CpuRuntime()) as runtime:
            yield runtime


class TestCpuRuntimeOnFourThreads(RuntimeConformance):
    """Groups get two threads each, whatever the machine has: the other way of forking."""

    @pytest.fixture
    def runtime(self) -> Iterator[CpuRuntime]:
        with closing(CpuRuntime(threads=4)) as runtime:
            yield runtime


def convolution(out_channels: int = 8, dtype: str = "float32") -> Stage:
    b = GraphBuilder("one")
    graph = b.build(b.conv2d(b.input((4, 9, 9)), out_channels, 3, padding=1)).bind(dtype=dtype)
    return canonical_stage(graph, [[0]]).stage


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 3e-2), ("float16", 4e-3)])
def test_half_precision_is_computed_or_infeasible(dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(3)
    stage = convolution(dtype=dtype)
    weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
    with closing(CpuRuntime()) as runtime:
        try:
            executable = runtime.prepare(stage, weights)
        except Infeasible as error:
            pytest.skip(str(error))
        (actual,) = executable.run(*inputs)
    (expected,) = run_stage(stage, weights, inputs)
    assert 0 < relative_error(actual, expected) <= tolerance


def test_callers_threads_are_left_alone() -> None:
    threads, cpus = torch.get_num_threads(), machine.allowed_cpus()
    before = set(threading.enumerate())
    with closing(CpuRuntime(threads=2)) as runtime:
        with runtime.prepare(stage_of(*STAGES["concurrent"], "nhwc")) as executable:
            executable.time(2)
        assert machine.allowed_cpus() == cpus
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == threads
    assert machine.allowed_cpus() == cpus
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    ("cores", "groups", "width", "beside"),
    [(1, 2, 1, 0), (2, 2, 1, 1), (2, 5, 1, 1), (4, 2, 2, 2), (4, 3, 1, 2), (4, 8, 1, 3)],
)
def test_groups_share_the_cores(cores: int, groups: int, width: int, beside: int) -> None:
    with closing(Streams(cores)) as streams:
        assert streams.width(groups) == width
        found = streams.beside(groups)
        assert [stream.width for stream in found] == [width] * beside
        assert [stream.call(torch.get_num_threads) for stream in found] == [width] * beside
        assert streams.beside(groups) == found


def test_a_stream_keeps_its_number_of_threads_whatever_others_set() -> None:
    with closing(Streams(4)) as streams:
        (first, *_) = streams.beside(4)
        torch.set_num_threads(3)  # before anything has run there
        assert first.call(torch.get_num_threads) == 1


def test_groups_really_run_side_by_side() -> None:
    # Each group waits for the other: run one after the other, the barrier would break.
    barrier = threading.Barrier(2, timeout=20)
    with closing(Streams(2)) as streams:
        beside = streams.beside(2)
        streams.home.call(lambda: streams.fork(beside, lambda: barrier.wait() and None))
        assert streams.home.call(torch.get_num_threads) == 2


@pytest.mark.parametrize("where", ["home", "beside"])
def test_error_in_a_group_reaches_the_caller_and_the_streams_go_on(where: str) -> None:
    with closing(Streams(2)) as streams:
        beside = streams.beside(2)
        home = streams.home.call(threading.get_ident)

        def run() -> None:
            if (threading.get_ident() == home) == (where == "home"):
                raise ArithmeticError("in a group")

        with pytest.raises(ArithmeticError, match="in a group"):
            streams.home.call(lambda: streams.fork(beside, run))
        assert streams.home.call(torch.get_num_threads) == 2
        streams.home.call(lambda: streams.fork(beside, lambda: None))


def test_tensors_are_given_up_after_their_last_reader() -> None:
    stages = [StageProgram((), frozenset({k}), frozenset({k + 1})) for k in range(4)]
    programs = with_liveness(stages, kept={4})
    assert [program.dead for program in programs] == [(0,), (1,), (2,), (3,)]
    # Slot 0 is read again at the end, and slot 2 is an output.
    again = [*stages, StageProgram((), frozenset({0, 4}), frozenset({5}))]
    assert [program.dead for program in with_liveness(again, kept={2, 5})] == [(), (1,), (), (3,), (0, 4)]


def test_merged_kernel_is_the_zero_padded_one() -> None:
    common = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
    attributes = [
        {**common, "out_channels": 1, "kernel": (1, 1), "padding": (0, 0), "bias": False},
        {**common, "out_channels": 2, "kernel": (3, 3), "padding": (1, 1), "bias": True},
    ]
    weights = [{"weight": torch.full((1, 1, 1, 1), 5.0)}, {"weight": torch.ones(2, 1, 3, 3), "bias": torch.ones(2)}]
    weight, bias, padding = merged_parameters(attributes, weights, (8, 8))
    assert padding == (1, 1)
    assert weight[0, 0].tolist() == [[0, 0, 0], [0, 5, 0], [0, 0, 0]]
    assert weight[1:].eq(1).all()
    assert bias is not None
    assert bias.tolist() == [0, 1, 1]


def test_random_tensors_share_no_memory() -> None:
    random = RandomTensors()
    tensors = [random.parameter("weight", (64, 64, 3, 3), torch.float32) for _ in range(40)]
    begins = sorted(tensor.data_ptr() for tensor in tensors)
    assert all(second - first >= tensors[0].nbytes for first, second in pairwise(begins))
    assert all(begin % 64 == 0 for begin in begins)
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors)
    assert (random.parameter("running_var", (999,), torch.float32) > 0).all()


def test_memory_that_is_taken_just_now_is_no_property_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(CpuRuntime()) as runtime:
        monkeypatch.setattr(machine, "available_memory", lambda: 1000)
        with pytest.raises(MemoryError, match="free now"):
            runtime.prepare(convolution())
        monkeypatch.setattr(machine, "total_memory", lambda: 1000)
        with pytest.raises(Infeasible, match="memory"):
            runtime.prepare(convolution())


def test_wrong_number_of_threads_is_refused() -> None:
    with pytest.raises(UsageError, match="0 threads"):
        CpuRuntime(threads=0)


def test_stage_times_in_place_are_parts_of_the_whole() -> None:
    graph = block()
    weights = graph_weights(graph, np.random.default_rng(0))
    with closing(CpuRuntime()) as runtime:
        executable = runtime.prepare_schedule(graph, merging(graph), weights)
        times = executable.time_stages(3)
        assert [len(execution) for execution in times] == [len(merging(graph).stages)] * 3
        with pytest.raises(ValueError, match="0 executions"):
            executable.time(0)
