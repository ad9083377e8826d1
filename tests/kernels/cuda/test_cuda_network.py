"""Whole schedules of the CUDA runtime as programs use them: tensors in and out, what ran when, how much is in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import block, greedy, merging, mixing
from host_gpu import FACTS, HostGpu
from host_kernels import needs_compiler
from host_runtime import host_runtime
from numerics_cases import graph_weights, random_inputs, relative_error

import iosfarm
from iosfarm.cli import main
from iosfarm.farm.api import run_jobs
from iosfarm.farm.jobs.job import Job
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.kernels.cuda import opening
from iosfarm.kernels.cuda.device.peak import peak_rate
from iosfarm.kernels.cuda.options import parse_spec
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.network import Span, TakesTensors, TellsUtilisation, Traceable
from iosfarm.kernels.reference import run_graph

pytestmark = needs_compiler

TOLERANCES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-2}
GPU = replace(FACTS, clock=1e9)


@pytest.fixture
def runtime() -> Iterator[CudaRuntime]:
    gpu = HostGpu(facts=GPU)
    with closing(host_runtime(gpu)) as runtime:
        yield runtime
    assert gpu.in_use == 0


def given(graph: Graph) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(2)
    return graph_weights(graph, rng), random_inputs([graph.shape(item.name) for item in graph.inputs], rng)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("last", [False, True])
def test_tensors_in_and_out(runtime: CudaRuntime, dtype: str, last: bool) -> None:
    graph = block().bind(dtype=dtype)
    weights, inputs = given(graph)
    kind, memory_format = getattr(torch, dtype), torch.channels_last if last else torch.contiguous_format
    tensors = [torch.from_numpy(array).to(kind).contiguous(memory_format=memory_format) for array in inputs]
    expected = run_graph(graph, weights, [tensor.float().numpy() for tensor in tensors])
    with runtime.prepare_schedule(graph, mixing(graph), weights) as whole:
        assert isinstance(whole, TakesTensors)
        first, kept = whole.run_tensors(tensors), [tensor.clone() for tensor in tensors]
        again = whole.run_tensors([2 * tensor for tensor in tensors])
        for actual, other, wanted in zip(first, again, expected, strict=True):
            assert actual.dtype == kind
            assert actual.is_contiguous(memory_format=memory_format if actual.dim() == 4 else torch.contiguous_format)
            assert relative_error(actual.float().numpy(), wanted) <= TOLERANCES[dtype]
            assert not torch.equal(actual, other)  # what came before is the caller's
        assert all(torch.equal(a, b) for a, b in zip(tensors, kept, strict=True))


def spans_of(runtime: CudaRuntime, graph: Graph, schedule: object) -> list[Span]:
    weights, inputs = given(graph)
    with runtime.prepare_schedule(graph, schedule, weights) as whole:
        assert isinstance(whole, Traceable)
        expected = whole.run(*inputs)
        spans = whole.trace()
        for actual, wanted in zip(whole.run(), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)  # tracing changes no number
    return spans


def sources(graph: Graph, name: str, seen: set[str]) -> set[str]:
    """Units that a unit reads, through those that are not seen."""
    (unit,) = [unit for unit in graph.units if unit.name == name]
    owner = {operator: other.name for other in graph.units for operator in other.operators}
    read = {owner[i] for o in unit.operators for i in graph.operator(o).inputs if i in owner} - {name}
    return {found for one in read for found in ({one} if one in seen else sources(graph, one, seen))}


@pytest.mark.parametrize("options", ["", "&timing=streams"])
@pytest.mark.parametrize("form", ["stages", "free-critical"])
def test_a_trace_shows_each_unit_after_those_that_it_reads(options: str, form: str) -> None:
    graph = block()
    schedule = replace(greedy(graph), form=form)
    gpu = HostGpu(seed=4)
    with closing(host_runtime(gpu, options)) as runtime:
        spans = spans_of(runtime, graph, schedule)
    assert gpu.in_use == 0
    units = {name: span for span in spans if span.stream is not None for name in span.units}
    # Of a concatenation without copies, there is nothing to be seen.
    silent = {unit.name for unit in graph.units if graph.operator(unit.operators[-1]).kind == "concat"}
    assert set(units) == {unit.name for unit in graph.units} - (silent if form != "stages" else set())
    assert all(0 <= span.begin < span.end for span in spans)
    for unit in graph.units:
        for before in sources(graph, unit.name, set(units)):
            if unit.name in units:
                assert units[before].end <= units[unit.name].begin
    for stage in (span for span in spans if span.stream is None):
        own = [span for span in units.values() if span.stage == stage.stage]
        assert (stage.begin, stage.end) == (min(s.begin for s in own), max(s.end for s in own))
    for one, other in pairwise([span for span in spans if span.stream is None]):
        assert form != "stages" or one.end <= other.begin


def test_what_is_merged_is_one_span(runtime: CudaRuntime) -> None:
    graph = block()
    schedule = merging(graph)
    merged = {tuple(sorted(n for g in s.groups for n in g)) for s in schedule.stages if s.strategy == "merge"}
    spans = [span for span in spans_of(runtime, graph, schedule) if span.stream is not None]
    assert merged
    assert merged == {tuple(sorted(span.units)) for span in spans if len(span.units) > 1}


def test_a_trace_is_of_the_inputs_of_the_last_run_and_leaves_times_as_they_are(runtime: CudaRuntime) -> None:
    graph = block()
    weights, _ = given(graph)
    with runtime.prepare_schedule(graph, greedy(graph), weights) as whole:
        before = whole.time(2)
        assert whole.trace()
        assert whole.time(2) == pytest.approx(before, rel=0.01)
    with pytest.raises(RuntimeError, match="closed"):
        whole.trace()


def test_the_work_that_is_in_use_is_the_network_s(runtime: CudaRuntime) -> None:
    graph = block()
    weights, _ = given(graph)
    with runtime.prepare_schedule(graph, greedy(graph), weights) as whole:
        assert isinstance(whole, TellsUtilisation)
        busy = whole.utilisation()
    assert all(0 <= item.share <= 1 for item in busy)
    assert all(one.end <= other.begin for one, other in pairwise(busy))
    # A kernel takes far longer on the host than on a GPU of this rate: nothing is cut off at 1.
    done = sum((item.end - item.begin) * item.share for item in busy) * peak_rate(GPU, "float32", "ieee")
    assert done == pytest.approx(sum(graph.flops(operator) for operator in graph.operators), rel=1e-6)


def test_without_a_clock_no_share_is_told() -> None:
    with closing(host_runtime(HostGpu())) as runtime:
        graph = block()
        with (
            runtime.prepare_schedule(graph, greedy(graph), given(graph)[0]) as whole,
            pytest.raises(UsageError, match="does not tell its clock"),
        ):
            whole.utilisation()


@pytest.mark.parametrize(
    ("capability", "dtype", "precision", "multiply_adds"),
    [
        ((7, 0), "float32", "ieee", 64),
        ((7, 5), "float16", "ieee", 512),
        ((8, 0), "float32", "tf32", 512),
        ((8, 9), "float32", "ieee", 128),
        ((9, 0), "bfloat16", "ieee", 2048),
        ((10, 3), "float32", "tf32", 2048),
        ((6, 1), "float16", "ieee", 128),
    ],
)
def test_peak_rates(capability: tuple[int, int], dtype: str, precision: str, multiply_adds: int) -> None:
    facts = replace(GPU, capability=capability, sms=10)
    assert peak_rate(facts, dtype, precision) == 2 * multiply_adds * 10 * 1e9


# -- through the product ---------------------------------------------------------------------------------------------


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever opens `cuda` opens a GPU on the host."""
    from iosfarm.ir.plan import PlanScope
    from iosfarm.kernels.cuda.execution.lane import Lanes
    from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
    from iosfarm.kernels.cuda.providers.trials import Trials

    def parts(text: str) -> tuple[object, ...]:
        gpu = HostGpu(facts=GPU)
        lanes = Lanes(gpu)
        return gpu, lanes, None, Trials(gpu, lanes.home, PlanCache(None, PlanScope("")), 1), parse_spec(text)

    monkeypatch.setattr(opening, "open_parts", parts)


@pytest.mark.usefixtures("cuda")
def test_a_compiled_model_on_cuda_is_called_with_tensors_and_traced() -> None:
    graph = block()
    weights, inputs = given(graph)
    expected = run_graph(graph, weights, inputs)
    with iosfarm.compile(graph, mixing(graph), device="cuda", weights=weights) as model:
        for outputs in (model(*inputs), model(*map(torch.from_numpy, inputs))):
            for actual, wanted in zip(outputs, expected, strict=True):
                assert relative_error(np.asarray(actual), wanted) <= 1e-5
        assert {name for span in model.trace() for name in span.units} == {unit.name for unit in graph.units}


@pytest.mark.usefixtures("cuda")
def test_a_model_that_is_compared_copies_nothing_while_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the others' rows on a GPU do not, either: inputs and outputs stay there."""
    graph = block()
    weights, inputs = given(graph)
    expected = run_graph(graph, weights, inputs)
    copies: list[str] = []
    for name in ("upload", "download"):
        honest = getattr(HostGpu, name)

        def copying(*arguments: object, name: str = name, honest: Callable[..., object] = honest) -> object:
            copies.append(name)
            return honest(*arguments)

        monkeypatch.setattr(HostGpu, name, copying)
    with iosfarm.compile(graph, greedy(graph), device="cuda", weights=weights) as model:
        execute, fetch = model.repeater([torch.from_numpy(array) for array in inputs])
        execute()
        copies.clear()
        outputs = [execute() for _ in range(2)][-1]
        assert copies == []
        for actual, wanted in zip(fetch(outputs), expected, strict=True):
            assert relative_error(actual.numpy(), wanted) <= 1e-5
        assert set(copies) == {"download"}
    with pytest.raises(RuntimeError, match="closed"):
        execute()


def test_a_model_without_memory_of_its_own_is_repeated_too() -> None:
    graph = block()
    weights, inputs = given(graph)
    with iosfarm.compile(graph, greedy(graph), device="cpu", weights=weights) as model:
        execute, fetch = model.repeater([torch.from_numpy(array) for array in inputs])
        for actual, wanted in zip(fetch(execute()), run_graph(graph, weights, inputs), strict=True):
            assert relative_error(actual.numpy(), wanted) <= 1e-5


@pytest.mark.usefixtures("cuda")
def test_run_writes_a_trace_of_a_schedule_on_cuda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = block()
    job = Job("block", graph, "sim:v100")
    run_jobs([job], database=str(tmp_path / "latency.db"), executor="inline", out=tmp_path)
    (file,) = tmp_path.glob("*.json")
    trace = tmp_path / "trace.json"
    assert main.run(["run", str(file), "--device", "cuda", "--rounds", "1", "--trace", str(trace)]) == 0
    capsys.readouterr()
    events = json.loads(trace.read_text())["traceEvents"]
    names = {event["name"] for event in events if event.get("cat") == "unit"}
    assert {name for both in names for name in both.split(" + ")} == {unit.name for unit in graph.units}
