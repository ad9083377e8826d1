"""Moves from random schedules: all of them lead to valid schedules that compute the same numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import StageFactory
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.reference import run_graph, run_stage
from iosfarm.kernels.runtime import Array
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.forms import Form, Move, Stream, form_of
from iosfarm.search.moves import Neighbourhood
from iosfarm.search.parts import cut

from search_graphs import graphs, whole  # isort: skip - beside this file


def forms_of(graph: Graph, schedule: Schedule) -> list[Form]:
    placed = schedule.place(graph, "nhwc")
    return [form_of(graph, s.part, s.strategy, p.groups) for s, p in zip(schedule.stages, placed, strict=True)]


def schedule_of(graph: Graph, forms: Sequence[Form]) -> Schedule:
    names = [tuple(tuple(graph.units[unit].name for unit in group) for group in form.groups) for form in forms]
    return Schedule(tuple(ScheduledStage(f.part, f.strategy, n) for f, n in zip(forms, names, strict=True)))


def made(forms: Sequence[Form], move: Move) -> list[Form]:
    return [*forms[: move.position], *move.forms, *forms[move.position + move.replaced :]]


def moves(graph: Graph, forms: Sequence[Form], **settings: object) -> list[Move]:
    homes = {unit: form.part for form in forms for unit in form.units}
    chosen = {"max_groups": None, "max_group_size": None, "inside": True, **settings}
    ordered = [homes[unit] for unit in range(len(graph.units))]
    return list(Neighbourhood(graph, ordered, **chosen).moves(forms))  # type: ignore[arg-type]


def walk(graph: Graph, seed: int, steps: int) -> list[Form]:
    """The forms of a schedule that some random moves lead to from one of the baselines."""
    rng = random.Random(seed)
    parts = cut(graph, max_part_size=rng.choice([2, 4, 64]))
    forms = forms_of(graph, rng.choice([sequential, greedy])(graph, parts, "nhwc"))
    for _ in range(steps):
        if found := moves(graph, forms):
            forms = made(forms, rng.choice(found))
    return forms


def weights_and_inputs(graph: Graph, seed: int) -> tuple[dict[str, Array], list[Array]]:
    weights: dict[str, Array]
    rng = np.random.default_rng(seed)
    weights = {
        f"{o.name}.{name}": rng.standard_normal(shape).astype(np.float32)
        for o in graph.operators
        for name, shape in graph.parameters(o).items()
    }
    return weights, [rng.standard_normal(graph.shape(i.name)).astype(np.float32) for i in graph.inputs]


def run_by_stages(graph: Graph, schedule: Schedule, weights: dict[str, Array], inputs: list[Array]) -> list[Any]:
    """The graph's outputs, float64, each stage by itself and reading only what the stages before have made."""
    values = {item.name: array for item, array in zip(graph.inputs, inputs, strict=True)}
    for item in schedule.place(graph, "nhwc"):
        units = [graph.units[unit] for group in item.groups for unit in group]
        operators = [graph.operator(name) for unit in units for name in unit.operators]
        given = [{name: weights[f"{o.name}.{name}"] for name in graph.parameters(o)} for o in operators]
        outputs = run_stage(item.stage, given, [values[name] for name in item.inputs])
        values.update({unit.operators[-1]: output for unit, output in zip(units, outputs, strict=True)})
    return [values[name] for name in graph.outputs]


@settings(max_examples=150, deadline=None)
@given(graphs(8), st.integers(0, 2**32), st.integers(0, 6), st.sampled_from([None, 1, 2, 3]))
def test_every_move_leads_to_a_valid_schedule(graph: Graph, seed: int, steps: int, most: int | None) -> None:
    forms = walk(graph, seed, steps)
    factory = StageFactory(graph, "nhwc")
    identities = set()
    for move in moves(graph, forms, max_groups=most):
        old = forms[move.position : move.position + move.replaced]
        assert 1 <= len(move.forms) <= move.replaced <= 2
        assert frozenset().union(*(f.units for f in move.forms)) == frozenset().union(*(f.units for f in old))
        assert [f.streams for f in move.forms] != [f.streams for f in old]
        if most is not None:
            assert all(len(form.streams) <= most for form in move.forms)
        after = made(forms, move)
        schedule = schedule_of(graph, after)
        for form, item in zip(after, schedule.place(graph, "nhwc"), strict=True):
            # What the form means is what the runtimes take the stage to be.
            assert factory.make(form.groups, form.strategy).key == item.key
            merged = sorted(len(stream.units) for stream in form.streams if stream.merged)
            assert sorted(len(s.units) for s in item.stage.streams if s.merged) == merged
        identities.add((move.position, move.replaced, tuple(frozenset(f.streams) for f in move.forms)))
    assert len(identities) == len(moves(graph, forms, max_groups=most))


@settings(max_examples=60, deadline=None)
@given(graphs(8), st.integers(0, 2**32), st.integers(1, 12))
def test_schedules_compute_the_right_numbers(graph: Graph, seed: int, steps: int) -> None:
    schedule = schedule_of(graph, walk(graph, seed, steps))
    weights, inputs = weights_and_inputs(graph, 3)
    for actual, expected in zip(
        run_by_stages(graph, schedule, weights, inputs), run_graph(graph, weights, inputs), strict=True
    ):
        np.testing.assert_allclose(actual, np.asarray(expected, np.float64), rtol=1e-9, atol=1e-9)


def cells() -> Graph:
    """Two cells that read the same, with convolutions of two classes that can be merged."""
    b = GraphBuilder("cells")
    x = b.conv2d(b.input((4, 8, 8)), 8, 3, padding=1)
    for _ in range(2):
        left = [b.conv2d(x, n, k, padding=k // 2, activation="relu") for n, k in ((4, 1), (3, 3), (5, 5))]
        right = [b.conv2d(left[0], n, 1) for n in (2, 4)]
        x = b.concat(*left[1:], *right, b.max_pool(x, 3, padding=1))
    return b.build(x)


def test_a_real_runtime_computes_them_right() -> None:
    graph = cells()
    weights, inputs = weights_and_inputs(graph, 5)
    expected: list[Any] = run_graph(graph, weights, inputs)
    strategies = set()
    with closing(CpuRuntime(2)) as runtime:
        for seed in range(25):
            schedule = schedule_of(graph, walk(graph, seed, 10))
            strategies |= {stage.strategy for stage in schedule.stages}
            with runtime.prepare_schedule(graph, schedule, weights) as executable:
                for actual, exact in zip(executable.run(*inputs), expected, strict=True):
                    np.testing.assert_allclose(actual, exact, rtol=2e-4, atol=2e-3)
    assert strategies == {"concurrent", "merge", "mixed"}


@settings(max_examples=60, deadline=None)
@given(graphs(8), st.integers(0, 2**32))
def test_what_a_search_of_a_part_has_weighed_is_left_out(graph: Graph, seed: int) -> None:
    forms = [Form(0, form.streams) for form in walk(graph, seed, 3)]
    rest = {(m.position, m.forms) for m in moves(graph, forms, inside=False, max_group_size=2)}
    old = {stream for form in forms for stream in form.streams}
    for move in moves(graph, forms):
        new = [stream for form in move.forms for stream in form.streams if stream not in old and not stream.merged]
        within = all(len(stream.units) <= 2 and connected(graph, stream) for stream in new)
        plain = within and all(form.strategy != "mixed" for form in move.forms)
        assert ((move.position, move.forms) not in rest) == plain


def connected(graph: Graph, stream: Stream) -> bool:
    one, *others = stream.units
    return not others or all(
        (one in graph.unit_predecessors[other]) or (other in graph.unit_predecessors[one]) for other in others
    )


def test_a_chain_can_only_have_longer_groups() -> None:
    b = GraphBuilder("chain")
    x = b.input((4, 8, 8))
    for _ in range(3):
        x = b.relu(x)
    graph = b.build(x)
    schedule = sequential(graph, [whole(graph)], "nhwc")
    assert moves(graph, forms_of(graph, schedule), inside=False) == []
    longer = moves(graph, forms_of(graph, schedule), inside=False, max_group_size=1)
    assert {tuple(form.groups[0] for form in move.forms) for move in longer} == {((0, 1),), ((1, 2),)}
