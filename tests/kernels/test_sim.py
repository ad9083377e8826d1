"""The analytic model: what it says has to be right in kind, and the same every time."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.kernels.runtime import Array
from iosfarm.kernels.sim import DEVICES, SimRuntime, parse_spec
from iosfarm.kernels.sim.kernel import Kernel
from iosfarm.kernels.sim.model import StageModel, makespan


def inception(batch: int = 1) -> Graph:
    """The branches of Inception V3's first block."""
    b = GraphBuilder("block")
    x = b.input((192, 35, 35))
    one = b.conv2d(x, 64, 1)
    five = b.conv2d(b.conv2d(x, 48, 1), 64, 5, padding=2)
    three = b.conv2d(b.conv2d(b.conv2d(x, 64, 1), 96, 3, padding=1), 96, 3, padding=1)
    pool = b.conv2d(b.avg_pool(x, 3, padding=1), 32, 1)
    return b.build(one, five, three, pool).bind(batch=batch)


BRANCHES = [[0], [1, 2], [3, 4, 5], [6, 7]]


def seconds(device: str, graph: Graph, groups: Sequence[Sequence[int]], strategy: str = "concurrent") -> float:
    return StageModel(DEVICES[device]).seconds(canonical_stage(graph, groups, strategy).stage)


def gain(device: str, batch: int) -> float:
    """How much faster the branches are side by side than one operator after the other."""
    graph = inception(batch)
    return sum(seconds(device, graph, [[u]]) for u in range(8)) / seconds(device, graph, BRANCHES)


# -- what concurrency is worth ---------------------------------------------------------------------------------------


def test_concurrency_helps_small_batches_and_hardly_large_ones() -> None:
    assert gain("v100", 1) > 1.4
    assert gain("h200", 1) > 1.4
    assert 1 < gain("k80", 1) < gain("v100", 1)  # a small device is full sooner
    assert 1 < gain("v100", 128) < 1.15
    assert gain("v100", 128) < gain("v100", 16) < gain("v100", 1)


def test_a_better_device_is_faster() -> None:
    graph = inception()
    assert seconds("h200", graph, BRANCHES) < seconds("v100", graph, BRANCHES) < seconds("k80", graph, BRANCHES)


def test_time_grows_with_the_batch_and_with_the_work() -> None:
    times = [seconds("v100", inception(batch), BRANCHES) for batch in (1, 8, 64, 128)]
    assert times == sorted(times)
    assert 1.5 < times[3] / times[2] < 2.1
    graph = inception()
    assert seconds("v100", graph, BRANCHES[:2]) < seconds("v100", graph, BRANCHES)


def test_a_large_convolution_runs_near_the_peak() -> None:
    b = GraphBuilder("large")
    graph = b.build(b.conv2d(b.input((512, 56, 56)), 512, 5, padding=2)).bind(batch=64)
    rate = graph.flops(graph.operators[0]) / seconds("v100", graph, [[0]])
    assert 0.6 < rate / DEVICES["v100"].rates["float32"] < 1


def test_a_large_copy_runs_near_the_bandwidth() -> None:
    b = GraphBuilder("large")
    graph = b.build(b.relu(b.input((256, 112, 112)))).bind(batch=64)
    moved = 2 * 4 * math.prod(graph.shape("relu_1"))
    assert 0.6 < moved / seconds("v100", graph, [[0]]) / DEVICES["v100"].bandwidth < 1


def test_merging_pays_where_one_input_is_read_by_small_convolutions() -> None:
    b = GraphBuilder("fire")
    x = b.input((64, 13, 13))
    graph = b.build(b.conv2d(x, 64, 1), b.conv2d(x, 64, 1), b.conv2d(x, 64, 1))
    merged = seconds("v100", graph, [[0], [1], [2]], "merge")
    assert merged < sum(seconds("v100", graph, [[u]]) for u in range(3))
    # A 1x1 that is padded to 5x5 costs what a 5x5 costs.
    b = GraphBuilder("padded")
    x = b.input((64, 35, 35))
    graph = b.build(b.conv2d(x, 512, 1), b.conv2d(x, 32, 5, padding=2)).bind(batch=32)
    assert seconds("v100", graph, [[0], [1]], "merge") > 3 * sum(seconds("v100", graph, [[u]]) for u in range(2))


def test_a_merged_group_of_a_mixed_stage_is_one_kernel_beside_the_others() -> None:
    b = GraphBuilder("mixed")
    x = b.input((64, 13, 13))
    values = [b.conv2d(x, 64, 1), b.conv2d(x, 64, 1), b.conv2d(x, 128, 1)]
    graph = b.build(*values, b.conv2d(b.avg_pool(x, 3, padding=1), 64, 1))
    mixed = seconds("v100", graph, [[0, 1], [3, 4]], "mixed")
    # Merged, the first two are what the third is.
    assert mixed == seconds("v100", graph, [[2], [3, 4]])
    assert mixed < seconds("v100", graph, [[0], [1], [3, 4]])


def test_views_cost_nothing_but_the_barrier() -> None:
    b = GraphBuilder("views")
    graph = b.build(b.flatten(b.slice(b.input((64, 13, 13)), 0, 32)))
    assert seconds("v100", graph, [[0, 1]]) == DEVICES["v100"].barrier


# -- the simulation of shared devices --------------------------------------------------------------------------------

SHARE = st.floats(0, 1)
KERNELS = st.builds(
    lambda work, sm, memory: Kernel(work * sm, work * memory, work * (1 - max(sm, memory)), 1, sm, memory),
    st.floats(1e-6, 1e-3),
    SHARE,
    SHARE,
)
CHAINS = st.lists(st.lists(KERNELS, min_size=1, max_size=4), min_size=1, max_size=5)
LAUNCH = 4e-6


@settings(max_examples=200, deadline=None)
@given(CHAINS)
def test_makespan_is_between_the_longest_chain_and_all_in_a_row(chains: list[list[Kernel]]) -> None:
    end = makespan(chains, LAUNCH)
    alone = [makespan([chain], LAUNCH) for chain in chains]
    count = sum(map(len, chains))
    total = sum(kernel.alone for chain in chains for kernel in chain)
    assert end >= max(alone) * (1 - 1e-9)
    assert end >= LAUNCH * count
    assert end <= (LAUNCH * count + total) * (1 + 1e-9)
    for load in ("sm_load", "memory_load"):
        # The device does no more work in a second than it can, to the tolerance of the model.
        assert end >= sum(k.alone * getattr(k, load) for chain in chains for k in chain) * 0.99


@settings(max_examples=100, deadline=None)
@given(CHAINS)
def test_kernels_that_do_not_fill_the_device_do_not_hinder_each_other(chains: list[list[Kernel]]) -> None:
    small = [[Kernel(k.alone / 10, 0.0, k.alone * 0.9, 1, 0.1, 0.0) for k in chain] for chain in chains]
    launched = makespan(small, 0.0)
    assert launched == pytest.approx(max(makespan([chain], 0.0) for chain in small))


def test_launches_are_serial() -> None:
    short = Kernel(1e-7, 0.0, 0.0, 1, 0.01, 0.0)
    assert makespan([[short] * 10], LAUNCH) == pytest.approx(10 * LAUNCH + 1e-7)
    assert makespan([[short]] * 10, LAUNCH) == pytest.approx(10 * LAUNCH + 1e-7)
    assert makespan([], LAUNCH) == 0


def test_full_kernels_share_the_device_equally() -> None:
    full = Kernel(1e-3, 0.0, 0.0, 1, 1.0, 0.0)
    half = Kernel(1e-3, 0.0, 0.0, 1, 0.5, 0.0)
    assert makespan([[full], [full]], 0.0) == pytest.approx(2e-3)
    assert makespan([[half], [half]], 0.0) == pytest.approx(1e-3)
    assert makespan([[full], [half]], 0.0) == pytest.approx(1.5e-3)
    # Compute and memory can overlap: one kernel needs only the SMs, the other only the memory.
    assert makespan([[full], [Kernel(0.0, 1e-3, 0.0, 1, 0.0, 1.0)]], 0.0) == pytest.approx(1e-3)


# -- samples ---------------------------------------------------------------------------------------------------------


def stage(groups: Sequence[Sequence[int]] = BRANCHES) -> Stage:
    return canonical_stage(inception(), groups).stage


def test_samples_depend_on_seed_stage_and_number_only() -> None:
    first = SimRuntime("v100", seed=1).prepare(stage()).time(10)
    runtime = SimRuntime("v100", seed=1)
    runtime.prepare(stage([[0]])).time(3)
    executable = runtime.prepare(stage())
    assert [*executable.time(4), *executable.time(6)] == first
    assert SimRuntime("v100", seed=2).prepare(stage()).time(10) != first
    ratios = [a / b for a, b in zip(runtime.prepare(stage([[0]])).time(10), first, strict=True)]
    assert stdev(ratios) > 0


def test_noise_is_as_large_as_asked_for() -> None:
    executable = SimRuntime("v100", noise=0.1).prepare(stage())
    logs = [math.log(sample / executable.seconds) for sample in executable.time(4000)]
    assert stdev(logs) == pytest.approx(0.1, rel=0.1)
    assert fmean(logs) == pytest.approx(0, abs=0.01)
    quiet = SimRuntime("v100", noise=0).prepare(stage())
    assert quiet.time(3) == [quiet.seconds] * 3


def test_a_schedule_takes_as_long_as_its_stages() -> None:
    graph = inception()
    runtime = SimRuntime("v100", noise=0)
    schedule = Schedule(
        (
            ScheduledStage(0, "merge", (("conv2d_1",), ("conv2d_2",), ("conv2d_4",))),
            ScheduledStage(0, "concurrent", (("conv2d_3",), ("conv2d_5", "conv2d_6"), ("avg_pool_1", "conv2d_7"))),
        )
    )
    weights: dict[str, Array] = {}
    for operator in graph.operators:
        for name, shape in graph.parameters(operator).items():
            weights[f"{operator.name}.{name}"] = np.zeros(shape, np.float32)
    whole = runtime.prepare_schedule(graph, schedule, weights).time(1)
    parts = [runtime.prepare(placed.stage).time(1)[0] for placed in schedule.place(graph, "nhwc")]
    assert whole == [pytest.approx(sum(parts))]


# -- what it is, and what it refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_says_that_it_is_simulated(name: str) -> None:
    device, environment = SimRuntime(name).fingerprint()
    assert device.simulated
    assert device.kind == f"sim:{name}"
    assert device.model.startswith(f"sim:{name} ")
    assert environment.hard_key == SimRuntime(name, seed=5).fingerprint()[1].hard_key
    assert environment.hard_key != SimRuntime(name, noise=0.2).fingerprint()[1].hard_key


def test_peak_rates_follow_from_clock_and_cores() -> None:
    cores = {"v100": 64, "k80": 192, "h200": 128}
    for name, device in DEVICES.items():
        assert device.rates["float32"] == pytest.approx(2 * device.sms * cores[name] * device.clock, rel=0.02)


@pytest.mark.parametrize(("name", "dtype"), [("k80", "float16"), ("k80", "bfloat16"), ("v100", "bfloat16")])
def test_a_dtype_that_the_device_lacks_is_infeasible(name: str, dtype: str) -> None:
    lacking = canonical_stage(inception().bind(dtype=dtype), BRANCHES).stage
    with pytest.raises(Infeasible, match=f"sim:{name} has no {dtype}; it has float32"):
        SimRuntime(name).prepare(lacking)
    assert SimRuntime("h200").prepare(lacking).seconds < SimRuntime("h200").prepare(stage()).seconds


def test_what_fits_depends_on_the_device() -> None:
    large = canonical_stage(inception(4096), BRANCHES).stage
    for name in ("k80", "v100"):
        with pytest.raises(Infeasible, match="GB of memory"):
            SimRuntime(name).prepare(large)
    assert SimRuntime("h200").prepare(large).seconds > 0


def test_unknown_device_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        SimRuntime("v1000")
    assert str(caught.value) == (
        "unknown simulated device 'sim:v1000'; did you mean sim:v100? known: sim:h200, sim:k80, sim:v100"
    )


def test_specs() -> None:
    spec = parse_spec("sim:v100?noise=0&seed=3")
    assert (spec.name, spec.seed, spec.noise) == ("v100", 3, 0)
    assert parse_spec("sim:k80").noise == 0.015
    assert SimRuntime.from_spec("sim:h200?noise=0.5").fingerprint()[1].hard["noise"] == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cuda", "'cuda' is not a simulated device; write sim:NAME"),
        ("sim:", "unknown simulated device 'sim:'; known: sim:h200"),
        ("sim:a100", "known: sim:h200, sim:k80, sim:v100"),
        ("sim:v100?nose=1", "unknown option 'nose'; there are noise and seed"),
        ("sim:v100?noise=loud", "sim:v100?noise=loud: noise is 'loud'; use a number from 0 to 1"),
        ("sim:v100?noise=-0.1", "noise is '-0.1'"),
        ("sim:v100?noise=nan", "noise is 'nan'"),
        ("sim:v100?noise=2", "noise is '2'"),
        ("sim:v100?seed=-1", "seed is '-1'; use an integer"),
        ("sim:v100?seed=1.5", "seed is '1.5'"),
        ("sim:v100?seed=99999999999999999999999", "seed is '99999999999999999999999'"),
        ("sim:v100?noise", "options 'noise'; write name=value"),
    ],
)
def test_specs_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert words in str(caught.value)


def test_telling_the_time_loads_no_torch() -> None:
    code = "import sys, iosfarm.kernels.sim; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
