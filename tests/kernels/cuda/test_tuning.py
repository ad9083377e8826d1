"""Launch orders that are searched: legal ones only, never worse than the first ones, found again without a search."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import count, permutations
from pathlib import Path

import numpy as np
import pytest
from conformance import greedy
from host_gpu import FACTS, HostGpu
from host_kernels import needs_compiler
from host_runtime import host_runtime
from hypothesis import given
from hypothesis import strategies as st
from numerics_cases import graph_weights, random_inputs, relative_error

from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.plan import PlanScope
from iosfarm.kernels.cuda.program import tuning
from iosfarm.kernels.cuda.program.forms import TUNED
from iosfarm.kernels.cuda.program.tuning import Order, parsed, tuned, written
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.runtime import CudaRuntime
from iosfarm.kernels.reference import run_graph


@st.composite
def programs(draw: st.DrawFn) -> tuple[tuple[int, ...], ...]:
    size = draw(st.integers(1, 6))
    return tuple(tuple(sorted(draw(st.sets(st.sampled_from(range(n)), max_size=2)) if n else ())) for n in range(size))


def legal(order: Order, needed: tuple[tuple[int, ...], ...]) -> bool:
    return all(order.index(before) < order.index(step) for step, each in enumerate(needed) for before in each)


@given(programs(), st.randoms(use_true_random=False))
def test_the_search_ends_at_a_legal_order_that_is_best_among_its_neighbours(
    needed: tuple[tuple[int, ...], ...], rng: object
) -> None:
    costs: dict[Order, float] = {}

    def seconds_of(order: Order) -> float:
        assert legal(order, needed)
        return costs.setdefault(order, rng.uniform(1.0, 2.0))  # type: ignore[attr-defined]

    start = tuple(range(len(needed)))
    ticks = count()
    best, seconds = tuned([start], needed, seconds_of, budget=100_000, clock=lambda: float(next(ticks)))
    assert seconds == costs[best] == min(costs.values()) or seconds <= min(costs.values()) * (1 + tuning.GAIN)
    every = [order for order in permutations(start) if legal(order, needed)]
    if len(every) <= 6:
        # Few enough for every one to be reached in some steps; chance may leave one out.
        assert set(costs) <= set(every)
        assert len(costs) >= len(every) - 1


def test_time_ends_the_search() -> None:
    needed: tuple[tuple[int, ...], ...] = ((),) * 9
    now = 0.0

    def seconds_of(_: Order) -> float:
        nonlocal now
        now += 0.5
        return 1.0

    assert tuned([tuple(range(9))], needed, seconds_of, budget=2.0, clock=lambda: now) == (tuple(range(9)), 1.0)
    assert now <= 2.5


@given(programs(), st.randoms(use_true_random=False))
def test_orders_are_written_and_read(needed: tuple[tuple[int, ...], ...], rng: object) -> None:
    order = list(range(len(needed)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    assert parsed(written(tuple(order)), needed) == (tuple(order) if legal(tuple(order), needed) else None)


@pytest.mark.parametrize("text", ["", "x", "0 0", "0 1 2", "1 0"])
def test_what_is_no_order_of_these_steps_is_none(text: str) -> None:
    assert parsed(text, ((), (0,))) is None


@needs_compiler
def test_an_order_is_searched_once_and_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder("four")
    x = b.input((4, 5, 5))
    graph = b.build(b.add(*[b.conv2d(x, 4, 1, activation="relu") for _ in range(3)]))
    rng = np.random.default_rng(3)
    weights, inputs = graph_weights(graph, rng), random_inputs((graph.shape(graph.inputs[0].name),), rng)
    expected = run_graph(graph, weights, inputs)
    schedule = replace(greedy(graph), form=TUNED)
    tried: list[Order] = []
    honest = tuning.tuned

    def few(starts: list[Order], needed: tuple[tuple[int, ...], ...], seconds_of: object) -> tuple[Order, float]:
        def watched(order: Order) -> float:
            tried.append(order)
            return seconds_of(order)  # type: ignore[operator, no-any-return]

        ticks = count()
        return honest(starts, needed, watched, budget=3, clock=lambda: float(next(ticks)))

    monkeypatch.setattr("iosfarm.kernels.cuda.runtime.tuned", few)
    for run in range(2):
        gpu = HostGpu(seed=run, facts=replace(FACTS, memory=2**28))
        plans = PlanCache(tmp_path, PlanScope("a GPU"))
        with (
            closing(host_runtime(gpu, plans=plans, most=2)) as runtime,
            runtime.prepare_schedule(graph, schedule, weights) as whole,
        ):
            assert bool(tried) == (run == 0)
            tried.clear()
            for actual, wanted in zip(whole.run(*inputs), expected, strict=True):
                assert relative_error(actual, wanted) <= 1e-5


def test_every_form_can_be_saved() -> None:
    choices = ScheduleFile.model_json_schema()["properties"]
    assert set(CudaRuntime.forms) == set(choices["form"]["enum"])
    assert set(CudaRuntime.forms) - {"stages"} <= set(choices["chosen"]["enum"])
