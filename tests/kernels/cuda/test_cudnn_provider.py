"""Convolutions by cuDNN, with a stand-in for the library: graphs, plans that are chosen and kept, what it cannot do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stand_in_cudnn
from conformance import SCHEDULES, STAGES, block, stage_of
from host_gpu import HostGpu
from host_kernels import needs_compiler
from numerics_cases import CASES, graph_weights, random_inputs, relative_error, stage_weights

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.operators import FUSED_ACTIVATIONS
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.ir.stage import Stage
from iosfarm.kernels.cuda.execution.lane import Lanes
from iosfarm.kernels.cuda.options import parse_spec
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.providers.trials import Trials
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_graph, run_stage

pytestmark = needs_compiler

Open = Callable[..., CudaRuntime]


@pytest.fixture
def open_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A runtime whose convolutions are the stand-in's."""
    import iosfarm.kernels.cuda.providers as package

    monkeypatch.setitem(sys.modules, "cudnn", stand_in_cudnn)
    for name in ("cudnn_graph", "cudnn_provider"):
        monkeypatch.delitem(sys.modules, f"iosfarm.kernels.cuda.providers.{name}", raising=False)
        monkeypatch.delattr(package, name, raising=False)
    from iosfarm.kernels.cuda.providers.cudnn_provider import CudnnProvider

    opened: list[CudaRuntime] = []

    def make(*, most: int = 1, plans: PlanCache | None = None, options: str = "") -> CudaRuntime:
        gpu = stand_in_cudnn.gpu = HostGpu()
        lanes = Lanes(gpu)
        trials = Trials(gpu, lanes.home, plans or PlanCache(None, PlanScope("")), most)
        spec = parse_spec(f"cuda?{options}" if options else "cuda")
        opened.append(CudaRuntime(gpu, lanes, CudnnProvider(gpu, trials, spec.precision), trials, spec))
        return opened[-1]

    monkeypatch.setattr(stand_in_cudnn, "refused", set())
    monkeypatch.setattr(stand_in_cudnn, "executed", [])
    yield make
    for runtime in opened:
        runtime.close()
    for name in ("cudnn_graph", "cudnn_provider"):
        sys.modules.pop(f"iosfarm.kernels.cuda.providers.{name}", None)


def error_of(runtime: CudaRuntime, stage: Stage) -> float:
    rng = np.random.default_rng(4)
    weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
    with runtime.prepare(stage, weights) as executable:
        actual = executable.run(*inputs)
    expected = run_stage(stage, weights, inputs)
    return max(relative_error(a, e) for a, e in zip(actual, expected, strict=True))


def convolution(
    activation: str = "relu", *, dtype: str = "float32", bias: bool = True, residual: bool = False
) -> Stage:
    b = GraphBuilder("one")
    x = b.input((6, 7, 5))
    with b.unit():
        if residual:
            y = b.add(b.conv2d(x, 6, 3, padding=1, bias=bias), x, activation=activation)
        else:
            y = b.conv2d(x, 6, 3, padding=1, bias=bias, activation=activation)
    return canonical_stage(b.build(y).bind(dtype=dtype, batch=2), [[0]], layout="nhwc").stage


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "conv2d"], ids=lambda case: case.name)
def test_every_convolution(open_runtime: Open, case: Any) -> None:
    assert error_of(open_runtime(), case.stage("nhwc")) <= 1e-5


@pytest.mark.parametrize("name", STAGES)
def test_stages(open_runtime: Open, name: str) -> None:
    assert error_of(open_runtime(), stage_of(*STAGES[name], "nhwc")) <= 1e-5
    assert stand_in_cudnn.executed


@pytest.mark.parametrize("form", ["stages", "free"])
def test_a_network(open_runtime: Open, form: str) -> None:
    graph = block()
    rng = np.random.default_rng(3)
    weights, inputs = graph_weights(graph, rng), random_inputs((graph.shape(graph.inputs[0].name),), rng)
    schedule = replace(SCHEDULES["mixing"](graph), form=form)
    with open_runtime().prepare_schedule(graph, schedule, weights) as executable:
        for _ in range(2):
            for actual, expected in zip(executable.run(*inputs), run_graph(graph, weights, inputs), strict=True):
                assert relative_error(actual, expected) <= 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("most", [1, 3])
def test_parts_of_a_concatenation(open_runtime: Open, dtype: str, most: int) -> None:
    b = GraphBuilder("parts")
    x = b.input((4, 7, 5))
    joined = b.concat(*[b.conv2d(x, c, 3, padding=1, activation="relu") for c in (8, 6, 2, 8)])
    graph = b.build(b.conv2d(joined, 3, 1)).bind(dtype=dtype)
    rng = np.random.default_rng(3)
    weights, inputs = graph_weights(graph, rng), random_inputs((graph.shape(graph.inputs[0].name),), rng)
    schedule = replace(SCHEDULES["greedy"](graph), form="free")
    runtime = open_runtime(most=most)
    with runtime.prepare_schedule(graph, schedule, weights) as executable:
        (actual,), (expected,) = executable.run(*inputs), run_graph(graph, weights, inputs)
        steps = executable.bound.form.program.steps
    assert relative_error(actual, expected) <= (1e-5 if dtype == "float32" else 1e-2)
    # Channels 14 and 15 begin at no multiple of 16 bytes.
    assert [len(step.reads) for step in steps if step.joins] == [1]
    assert runtime.fallbacks == 0


@pytest.mark.parametrize("refused", [set(), {"relu"}, {"relu", "bias"}, {"relu", "bias", "add"}])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_what_cudnn_does_not_fuse_our_kernels_do(
    open_runtime: Open, monkeypatch: pytest.MonkeyPatch, refused: set[str], residual: bool, bias: bool
) -> None:
    monkeypatch.setattr(stand_in_cudnn, "refused", refused)
    runtime = open_runtime()
    assert error_of(runtime, convolution(residual=residual, bias=bias)) <= 1e-5
    assert stand_in_cudnn.executed
    assert runtime.fallbacks == 0


def test_a_plan_that_does_not_run_after_all_is_not_taken(open_runtime: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in_cudnn, "refusing", {1})
    assert error_of(open_runtime(most=3), convolution()) <= 1e-5
    assert {name.split("_")[1] for name in stand_in_cudnn.executed} == {"eng2"}


@pytest.mark.parametrize("activation", FUSED_ACTIVATIONS)
def test_every_activation(open_runtime: Open, activation: str) -> None:
    assert error_of(open_runtime(), convolution(activation)) <= 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(open_runtime: Open, dtype: str) -> None:
    assert 0 < error_of(open_runtime(), convolution(dtype=dtype)) <= 1e-2


def test_what_cudnn_cannot_compute_our_kernels_do(open_runtime: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in_cudnn, "refused", {"conv_fprop"})
    runtime = open_runtime()
    assert error_of(runtime, convolution()) <= 1e-5
    assert runtime.fallbacks == 1
    assert stand_in_cudnn.executed == []


def test_plans_are_timed_once_and_kept(open_runtime: Open, tmp_path: Path) -> None:
    stage = convolution()
    open_runtime(most=2, plans=PlanCache(tmp_path, PlanScope("a GPU"))).prepare(stage).close()
    tried = set(stand_in_cudnn.executed)
    assert len(tried) >= 3  # of each fusion the two that can be built, as far as they differ
    (file,) = tmp_path.iterdir()
    assert '"all ConvFwd_eng' in file.read_text() or '"bias ConvFwd_eng' in file.read_text()
    stand_in_cudnn.executed.clear()
    runtime = open_runtime(most=2, plans=PlanCache(tmp_path, PlanScope("a GPU")))
    with runtime.prepare(stage) as executable:
        assert stand_in_cudnn.executed == []
        executable.run()
    assert len(set(stand_in_cudnn.executed)) == 1


def test_a_plan_that_is_no_longer_offered_is_chosen_anew(open_runtime: Open, tmp_path: Path) -> None:
    stage = convolution()
    plans = PlanCache(tmp_path, PlanScope("a GPU"))
    open_runtime(most=2, plans=plans).prepare(stage).close()
    for key in list(plans._plans):
        plans.put(Plan(key, "all ConvFwd_eng77", 1e-6))
    assert error_of(open_runtime(most=2, plans=PlanCache(tmp_path, PlanScope("a GPU"))), stage) <= 1e-5


def test_groups_side_by_side_can_share_the_processors(open_runtime: Open) -> None:
    stage = stage_of([["wide"], ["squeeze"]], "concurrent", "nhwc")
    with open_runtime(options="sms=share").prepare(stage) as executable:
        shares = [step.call.graph.graph.sm_count for step in executable.bound.form.program.steps]  # type: ignore[attr-defined]
    assert shares == [2, 2]  # of four
    with open_runtime().prepare(stage) as executable:
        shares = [step.call.graph.graph.sm_count for step in executable.bound.form.program.steps]  # type: ignore[attr-defined]
    assert shares == [None, None]


def test_a_share_that_cudnn_does_not_plan_for_is_planned_for_all(
    open_runtime: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in_cudnn, "refused", {"sm_count"})
    runtime = open_runtime(options="sms=share")
    assert error_of(runtime, stage_of([["wide"], ["squeeze"]], "concurrent", "nhwc")) <= 1e-5
    assert stand_in_cudnn.executed
    assert runtime.fallbacks == 0


def test_plans_that_cannot_be_built_are_given_up_in_time(open_runtime: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = open_runtime()
    from iosfarm.kernels.cuda.providers import cudnn_graph, cudnn_provider

    now = 0.0
    built: list[int] = []

    def slow(_: object, index: int) -> None:
        nonlocal now
        now += 1.0
        built.append(index)

    monkeypatch.setattr(cudnn_graph.ConvolutionGraph, "build", slow)
    monkeypatch.setattr(cudnn_provider, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(stand_in_cudnn, "plans", 40)
    assert error_of(runtime, convolution()) <= 1e-5
    assert runtime.fallbacks == 1
    assert len(built) < 8  # of 120


def test_a_library_that_can_do_nothing_is_told(open_runtime: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    open_runtime()
    from iosfarm.kernels.cuda.providers import cudnn_graph

    handle = stand_in_cudnn.create_handle()
    assert cudnn_graph.why_broken(handle) == ""
    monkeypatch.setattr(stand_in_cudnn, "refused", {"conv_fprop"})
    assert cudnn_graph.why_broken(handle) == "No valid engine configs"


def test_the_provider_is_part_of_the_environment(open_runtime: Open) -> None:
    hard = [dict(open_runtime(options=o).fingerprint()[1].hard) for o in ("", "precision=tf32", "sms=share")]
    assert (hard[0]["provider"], hard[0]["cudnn"]) == ("cudnn", "9.24")
    assert hard[0] != hard[1] != hard[2]
