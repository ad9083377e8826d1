"""What every runtime has to do. To test one: subclass `RuntimeConformance` and override the `runtime` fixture.

class TestMine(RuntimeConformance):
    @pytest.fixture
    def runtime(self):
        with closing(MyRuntime()) as runtime:
            yield runtime
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.device import canonical_json
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import LAYOUTS
from iosfarm.kernels.reference import run_graph, run_stage
from iosfarm.kernels.runtime import Array, Runtime

from numerics_cases import (  # isort: skip - beside this file
    CASES,
    Case,
    graph_weights,
    random_inputs,
    relative_error,
    stage_weights,
)


def block() -> Graph:
    """A small network with branches, convolutions that can be merged, compound units and a classifier."""
    b = GraphBuilder("block")
    x = b.input((8, 14, 14))
    stem = b.conv2d(x, 16, 3, padding=1, activation="relu", name="stem")
    squeeze = b.conv2d(stem, 8, 1, activation="relu", name="squeeze")
    wide = b.conv2d(stem, 12, 3, padding=1, activation="relu", bias=False, name="wide")
    tall = b.conv2d(stem, 4, (3, 1), padding=(1, 0), activation="relu", name="tall")
    with b.unit("separable"):
        depth = b.depthwise(b.relu(stem), 5, padding=2)
        separable = b.conv2d(depth, 12, 1)
    deep = b.conv2d(squeeze, 12, 3, padding=1, name="deep")
    joined = b.concat(wide, tall, b.add(separable, deep, activation="relu"))
    scale = b.activation(b.conv2d(b.global_avg_pool(joined), 28, 1), "sigmoid")
    scaled = b.mul(joined, scale)
    logits = b.linear(b.flatten(b.max_pool(scaled, 3, stride=2)), 10)
    return b.build(b.softmax(logits), joined)


def sequential(graph: Graph) -> Schedule:
    """One unit a stage."""
    return Schedule(tuple(ScheduledStage(0, "concurrent", ((unit.name,),)) for unit in graph.units))


def greedy(graph: Graph) -> Schedule:
    """Every ready unit at once."""
    done: set[int] = set()
    stages = []
    while len(done) < len(graph.units):
        ready = [i for i, before in enumerate(graph.unit_predecessors) if i not in done and done >= set(before)]
        stages.append(ScheduledStage(0, "concurrent", tuple((graph.units[i].name,) for i in ready)))
        done.update(ready)
    return Schedule(tuple(stages))


def merging(graph: Graph) -> Schedule:
    """Three convolutions of `block` merged, one group of two units, the rest sequential."""
    first = [
        ScheduledStage(0, "concurrent", (("stem",),)),
        ScheduledStage(0, "merge", (("squeeze",), ("wide",), ("tall",))),
        ScheduledStage(0, "concurrent", (("deep",), ("separable",))),
        ScheduledStage(0, "concurrent", (("add_1", "concat_1"),)),
    ]
    done = {name for stage in first for group in stage.groups for name in group}
    rest = [ScheduledStage(0, "concurrent", ((u.name,),)) for u in graph.units if u.name not in done]
    return Schedule((*first, *rest))


def mixing(graph: Graph) -> Schedule:
    """Two convolutions of `block` merged beside a chain and a compound unit, the rest sequential."""
    first = [
        ScheduledStage(0, "concurrent", (("stem",),)),
        ScheduledStage(0, "mixed", (("squeeze", "deep"), ("wide", "tall"), ("separable",))),
    ]
    done = {name for stage in first for group in stage.groups for name in group}
    rest = [ScheduledStage(0, "concurrent", ((u.name,),)) for u in graph.units if u.name not in done]
    return Schedule((*first, *rest))


SCHEDULES = {"sequential": sequential, "greedy": greedy, "merging": merging, "mixing": mixing}


def stage_of(names: list[list[str]], strategy: str, layout: str, graph: Graph | None = None) -> Stage:
    """A stage of units of `block`, by name."""
    graph = graph or block()
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    return canonical_stage(graph, [[index[n] for n in group] for group in names], strategy, layout).stage


STAGES = {
    "one": ([["wide"]], "concurrent"),
    "one-group": ([["squeeze", "deep"]], "concurrent"),
    "concurrent": ([["wide"], ["squeeze", "deep"], ["separable"]], "concurrent"),
    "many-groups": ([["wide"], ["squeeze"], ["tall"], ["separable"]], "concurrent"),
    "compound": ([["separable"]], "concurrent"),
    "merge": ([["wide"], ["squeeze"], ["tall"]], "merge"),
    "merge-same-size": ([["wide"], ["tall"]], "merge"),
    "mixed": ([["squeeze", "wide"], ["separable"]], "mixed"),
    "mixed-with-a-chain": ([["squeeze", "deep"], ["separable"], ["wide", "tall"]], "mixed"),
}


class RuntimeConformance:
    """Subclasses override `runtime`; `computes` tells whether `time` is that of a real execution."""

    computes = True
    tolerance = 1e-4

    @pytest.fixture
    def runtime(self) -> Iterator[Runtime]:
        raise NotImplementedError("override the fixture `runtime`")

    @pytest.fixture
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(7)

    def check_stage(self, runtime: Runtime, stage: Stage, rng: np.random.Generator) -> None:
        weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
        expected = run_stage(stage, weights, inputs)
        with runtime.prepare(stage, weights) as executable:
            actual = executable.run(*inputs)
        self.check_outputs(actual, expected)

    def check_outputs(self, actual: list[Array], expected: list[Array]) -> None:
        assert len(actual) == len(expected)
        for number, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert a.dtype == np.float32
            assert relative_error(a, e) <= self.tolerance, f"output {number}"

    # -- what it is ----------------------------------------------------------------------------------------------

    def test_fingerprint_is_stable_and_complete(self, runtime: Runtime) -> None:
        device, environment = runtime.fingerprint()
        assert (device, environment) == runtime.fingerprint()
        assert device.kind
        assert device.model
        assert {"runtime", "precision", "timing"} <= set(environment.hard)
        canonical_json([dict(device.properties), dict(device.instance), dict(environment.hard), dict(environment.soft)])

    def test_layout_is_one_that_stages_have(self, runtime: Runtime) -> None:
        assert runtime.layout in LAYOUTS

    def test_it_cannot_be_pickled(self, runtime: Runtime) -> None:
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(runtime)
        with (
            runtime.prepare(stage_of(*STAGES["one"], runtime.layout)) as executable,
            pytest.raises(TypeError, match="pickle"),
        ):
            pickle.dumps(executable)

    # -- numbers -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_operator(self, runtime: Runtime, case: Case, rng: np.random.Generator) -> None:
        self.check_stage(runtime, case.stage(runtime.layout), rng)

    @pytest.mark.parametrize("name", STAGES)
    def test_stage(self, runtime: Runtime, name: str, rng: np.random.Generator) -> None:
        self.check_stage(runtime, stage_of(*STAGES[name], runtime.layout), rng)

    @pytest.mark.parametrize("name", STAGES)
    def test_stage_of_a_larger_batch(self, runtime: Runtime, name: str, rng: np.random.Generator) -> None:
        self.check_stage(runtime, stage_of(*STAGES[name], runtime.layout, block().bind(batch=3)), rng)

    def test_two_merged_groups_and_one_in_order(self, runtime: Runtime, rng: np.random.Generator) -> None:
        b = GraphBuilder("two")
        x, y = b.input((6, 9, 9)), b.input((4, 9, 9))
        values = [b.conv2d(v, n, k, padding=k // 2) for v in (x, y) for n, k in ((3, 1), (5, 3), (2, 5))]
        # On one stream, but of other sizes, so that they cannot be merged.
        values += [b.conv2d(y, 3, 3, padding=1, stride=2), b.conv2d(y, 3, 3)]
        stage = canonical_stage(b.build(*values), [[6, 7], [0, 1, 2], [4, 3], [5]], "mixed", runtime.layout).stage
        assert sorted(len(stream.units) for stream in stage.streams if stream.merged) == [2, 3]
        self.check_stage(runtime, stage, rng)

    @pytest.mark.parametrize("batch", [1, 2])
    @pytest.mark.parametrize("name", SCHEDULES)
    def test_schedule(self, runtime: Runtime, name: str, batch: int, rng: np.random.Generator) -> None:
        graph = block().bind(batch=batch)
        weights = graph_weights(graph, rng)
        inputs = random_inputs((graph.shape(graph.inputs[0].name),), rng)
        with runtime.prepare_schedule(graph, SCHEDULES[name](graph), weights) as executable:
            actual = executable.run(*inputs)
        self.check_outputs(actual, run_graph(graph, weights, inputs))

    # -- running -------------------------------------------------------------------------------------------------

    def test_run_without_inputs_and_weights_uses_random_ones(self, runtime: Runtime) -> None:
        stage = stage_of(*STAGES["concurrent"], runtime.layout)
        with runtime.prepare(stage) as executable:
            outputs = executable.run()
        shapes = [stage.shape_of(unit.output) for unit in stage.units]
        assert [output.shape for output in outputs] == shapes
        assert all(np.isfinite(output).all() and output.std() > 0 for output in outputs)

    def test_outputs_belong_to_the_caller(self, runtime: Runtime, rng: np.random.Generator) -> None:
        stage = stage_of(*STAGES["concurrent"], runtime.layout)
        first, second = random_inputs(stage.inputs, rng), random_inputs(stage.inputs, rng)
        with runtime.prepare(stage) as executable:
            once = executable.run(*first)
            kept = [output.copy() for output in once]
            executable.run(*second)
            executable.time(2)
            for output, copy in zip(once, kept, strict=True):
                np.testing.assert_array_equal(output, copy)
            for output in once:
                output[...] = 0
            for output, copy in zip(executable.run(*first), kept, strict=True):
                assert relative_error(output, copy) <= self.tolerance

    def test_output_that_is_an_input_is_a_copy(self, runtime: Runtime, rng: np.random.Generator) -> None:
        b = GraphBuilder("same")
        stage = canonical_stage(b.build(b.dropout(b.input((9,)))), [[0]], layout=runtime.layout).stage
        first, second = random_inputs(stage.inputs, rng), random_inputs(stage.inputs, rng)
        with runtime.prepare(stage) as executable:
            (once,) = executable.run(*first)
            executable.run(*second)
        np.testing.assert_array_equal(once, first[0])

    def test_inputs_are_not_changed(self, runtime: Runtime, rng: np.random.Generator) -> None:
        # The unit begins with an activation, which a careless runtime would apply in place.
        stage = stage_of([["separable"]], "concurrent", runtime.layout)
        inputs = random_inputs(stage.inputs, rng)
        kept = [i.copy() for i in inputs]
        with runtime.prepare(stage) as executable:
            executable.run(*inputs)
        for i, copy in zip(inputs, kept, strict=True):
            np.testing.assert_array_equal(i, copy)

    def test_schedule_leaves_a_tensor_that_two_stages_read_alone(
        self, runtime: Runtime, rng: np.random.Generator
    ) -> None:
        b = GraphBuilder("shared")
        x = b.input((4, 5, 5))
        same = b.dropout(b.conv2d(x, 4, 1))
        graph = b.build(b.add(same, activation="relu"), b.concat(same), same)
        weights, inputs = graph_weights(graph, rng), random_inputs(((1, 4, 5, 5),), rng)
        with runtime.prepare_schedule(graph, sequential(graph), weights) as executable:
            self.check_outputs(executable.run(*inputs), run_graph(graph, weights, inputs))

    def test_views_show_what_they_are_of_to_the_end(self, runtime: Runtime, rng: np.random.Generator) -> None:
        """A view is as old as its reader, not as its own operator: what it shows stays while others are computed."""
        b = GraphBuilder("views")
        x = b.conv2d(b.input((4, 5, 5)), 4, 3, padding=1)
        flat, first = b.flatten(x), b.slice(x, 0, 2)
        for _ in range(5):
            x = b.conv2d(x, 4, 3, padding=1)
        graph = b.build(b.concat(x, first), flat, b.dropout(x))
        weights, inputs = graph_weights(graph, rng), random_inputs(((1, 4, 5, 5),), rng)
        for schedule in (sequential(graph), greedy(graph)):
            with runtime.prepare_schedule(graph, schedule, weights) as executable:
                self.check_outputs(executable.run(*inputs), run_graph(graph, weights, inputs))

    def test_wrong_inputs_are_refused(self, runtime: Runtime, rng: np.random.Generator) -> None:
        stage = stage_of(*STAGES["one"], runtime.layout)
        good = random_inputs(stage.inputs, rng)
        with runtime.prepare(stage) as executable:
            with pytest.raises(ValueError, match="1 input"):
                executable.run(*good, *good)
            with pytest.raises(ValueError, match="shape"):
                executable.run(good[0][:, :-1])

    def test_stage_of_another_layout_is_refused(self, runtime: Runtime) -> None:
        other = next(layout for layout in LAYOUTS if layout != runtime.layout)
        with pytest.raises(UsageError, match=other):
            runtime.prepare(stage_of(*STAGES["one"], other))

    def test_wrong_weights_are_refused(self, runtime: Runtime, rng: np.random.Generator) -> None:
        stage = stage_of(*STAGES["one-group"], runtime.layout)
        weights = stage_weights(stage, rng)
        with pytest.raises(UsageError, match="weight"):
            runtime.prepare(stage, weights[:1])
        weights[0]["weight"] = weights[0]["weight"][:, :-1]
        with pytest.raises(UsageError, match="shape"):
            runtime.prepare(stage, weights)
        graph = block()
        complete = graph_weights(graph, rng)
        del complete["tall.bias"]
        with pytest.raises(UsageError, match=r"tall\.bias"):
            runtime.prepare_schedule(graph, sequential(graph), complete)

    def test_schedule_that_does_not_fit_is_refused(self, runtime: Runtime, rng: np.random.Generator) -> None:
        graph = block()
        partial = Schedule(sequential(graph).stages[:-1])
        with pytest.raises(UsageError, match="no stage"):
            runtime.prepare_schedule(graph, partial, graph_weights(graph, rng))

    def test_what_can_never_fit_is_infeasible(self, runtime: Runtime) -> None:
        b = GraphBuilder("huge")
        x = b.input((8, 1024, 1024))
        graph = b.build(b.relu(x)).bind(batch=65536)
        with pytest.raises(Infeasible, match="memory"):
            runtime.prepare(canonical_stage(graph, [[0]], layout=runtime.layout).stage)

    # -- time ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", STAGES)
    def test_time_of_stage(self, runtime: Runtime, name: str) -> None:
        with runtime.prepare(stage_of(*STAGES[name], runtime.layout)) as executable:
            self.check_samples(executable.time(5), 5)

    def test_time_of_schedule(self, runtime: Runtime, rng: np.random.Generator) -> None:
        graph = block()
        with runtime.prepare_schedule(graph, greedy(graph), graph_weights(graph, rng)) as executable:
            self.check_samples(executable.time(3), 3)

    def check_samples(self, samples: list[float], count: int) -> None:
        assert len(samples) == count
        assert all(isinstance(sample, float) and 0 < sample < math.inf for sample in samples)

    # -- lifetime ------------------------------------------------------------------------------------------------

    def test_closed_executable_refuses_work(self, runtime: Runtime) -> None:
        executable = runtime.prepare(stage_of(*STAGES["one"], runtime.layout))
        executable.close()
        executable.close()
        with pytest.raises(RuntimeError, match="closed"):
            executable.run()
        with pytest.raises(RuntimeError, match="closed"):
            executable.time(1)

    def test_executables_close_in_any_order(self, runtime: Runtime, rng: np.random.Generator) -> None:
        stages = [stage_of(*STAGES[name], runtime.layout) for name in ("concurrent", "merge", "one")]
        first, second, third = (runtime.prepare(stage) for stage in stages)
        first.close()
        self.check_samples(second.time(1), 1)
        third.close()
        self.check_samples(second.time(1), 1)
        second.close()
        self.check_stage(runtime, stages[0], rng)

    def test_closed_runtime_refuses_work(self, runtime: Runtime) -> None:
        runtime.close()
        runtime.close()
        with pytest.raises(RuntimeError, match="closed"):
            runtime.prepare(stage_of(*STAGES["one"], runtime.layout))
