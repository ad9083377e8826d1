"""Activations that join the operator before them: where they may, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder, Value
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.operators import FUSED_ACTIVATIONS
from iosfarm.kernels.cpu.operators.activations import with_activations
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.reference import run_stage

from numerics_cases import random_inputs, relative_error, stage_weights  # isort: skip - of the folder above


def one_unit(build: Callable[[GraphBuilder, Value, Value], Value]) -> Graph:
    b = GraphBuilder("unit")
    first, second = b.input((8, 7, 5)), b.input((8, 7, 5))
    with b.unit():
        result = build(b, first, second)
    return b.build(result)


UNITS: dict[str, tuple[Callable[[GraphBuilder, Value, Value], Value], list[tuple[str, str]]]] = {
    "sum": (lambda b, x, y: b.depthwise(b.relu(b.add(x, y)), 3, padding=1), [("add", "relu"), ("conv2d", "none")]),
    "convolution": (lambda b, x, y: b.relu(b.conv2d(b.add(x, y), 6, 1)), [("add", "none"), ("conv2d", "relu")]),
    "first": (lambda b, x, y: b.add(b.relu(x), y), [("relu", ""), ("add", "none")]),
    "has one": (
        lambda b, x, y: b.operator("sigmoid", [b.add(x, y, activation="relu")]),
        [("add", "relu"), ("sigmoid", "")],
    ),
    "read twice": (
        lambda b, x, y: b.add(b.relu(total := b.add(x, y)), total),
        [("add", "none"), ("relu", ""), ("add", "none")],
    ),
    "two": (lambda b, x, y: b.operator("tanh", [b.relu(b.add(x, y))]), [("add", "relu"), ("tanh", "")]),
    "without the attribute": (
        lambda b, x, y: b.relu(b.concat(x, y)),
        [("concat", ""), ("relu", "")],
    ),
}


@pytest.mark.parametrize("name", UNITS)
def test_what_joins_what(name: str) -> None:
    build, expected = UNITS[name]
    stage = canonical_stage(one_unit(build), [[0]], layout="nhwc").stage
    (unit,) = stage.units
    executed = with_activations(unit)
    assert [(e.operator.kind, e.operator.attributes.get("activation", "")) for e in executed] == expected
    assert executed[-1].result == unit.output
    weights, inputs = stage_weights(stage, rng := np.random.default_rng(2)), random_inputs(stage.inputs, rng)
    with closing(CpuRuntime()) as runtime, runtime.prepare(stage, weights) as executable:
        (actual,) = executable.run(*inputs)
    (exact,) = run_stage(stage, weights, inputs)
    assert relative_error(actual, exact) <= 1e-5


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["add", "conv2d", *FUSED_ACTIVATIONS[1:]]), min_size=1, max_size=8), st.data())
def test_any_unit(kinds: list[str], data: st.DataObject) -> None:
    def build(b: GraphBuilder, x: Value, y: Value) -> Value:
        values = [x, y]
        for kind in kinds:
            source = values[data.draw(st.integers(0, len(values) - 1))]
            if kind == "add":
                values.append(b.add(source, values[-1]))
            elif kind == "conv2d":
                values.append(b.conv2d(source, 8, 1))
            else:
                values.append(b.operator(kind, [source]))
        return b.add(*values[2:]) if len(values) > 3 else values[-1]

    graph = one_unit(build)
    stage = canonical_stage(graph, [[0]], layout="nhwc").stage
    weights, inputs = stage_weights(stage, rng := np.random.default_rng(2)), random_inputs(stage.inputs, rng)
    with closing(CpuRuntime(1)) as runtime, runtime.prepare(stage, weights) as executable:
        (actual,) = executable.run(*inputs)
    (exact,) = run_stage(stage, weights, inputs)
    assert relative_error(actual, exact) <= 1e-5
