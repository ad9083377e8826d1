"""Dependencies, lanes and the memory plan: properties that hold for every program."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from program_examples import program, programs, step

from iosfarm.kernels.cuda.device.gpu import ALIGNMENT, rounded
from iosfarm.kernels.cuda.program.dependencies import (
    Dependencies,
    ancestors,
    descendants,
    ends,
    reduced,
    reordered,
    true_only,
    with_barriers,
)
from iosfarm.kernels.cuda.program.lanes import place
from iosfarm.kernels.cuda.program.memory import plan_memory
from iosfarm.kernels.cuda.program.steps import Program

orders = st.sampled_from([with_barriers, true_only])


def overlap(plan_offsets: tuple[int, ...], values: Program, one: int, other: int) -> bool:
    begin, end = plan_offsets[one], plan_offsets[one] + values.values[one].size
    return begin < plan_offsets[other] + values.values[other].size and plan_offsets[other] < end


def check_memory(item: Program, dependencies: Dependencies) -> None:
    """No step writes, while another may run, to memory that the other touches; what is kept is nobody else's."""
    plan = plan_memory(item, dependencies)
    before = ancestors(dependencies)
    kept = {*item.inputs, *item.outputs}
    touched = kept | {v for s in item.steps for v in s.touched}
    assert all(plan.offsets[v] % ALIGNMENT == 0 for v in touched)
    assert all(0 <= plan.offsets[v] <= plan.size - item.values[v].size for v in touched)
    for value in kept:
        assert not any(overlap(plan.offsets, item, value, other) for other in touched if other != value)
    # A value is alive from the first step that writes it to the last that touches it; steps of any other value in the
    # same memory have to be ordered against all of these.
    users = {v: [n for n, s in enumerate(item.steps) if v in s.touched] for v in touched}
    for one, other in combinations(sorted(touched - kept), 2):
        if overlap(plan.offsets, item, one, other):
            first = all(before[b] >> a & 1 for a in users[one] for b in users[other])
            last = all(before[a] >> b & 1 for a in users[one] for b in users[other])
            assert first or last, (one, other)


@settings(max_examples=40, deadline=None)
@given(programs(), orders)
def test_values_that_may_be_alive_together_never_overlap(item: Program, order: object) -> None:
    check_memory(item, order(item.steps))  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(programs())
def test_memory_is_shared_where_steps_follow_each_other(item: Program) -> None:
    in_line = tuple((n - 1,) if n else () for n in range(len(item.steps)))
    check_memory(item, in_line)
    everything = sum(rounded(value.size) for value in item.values)
    assert plan_memory(item, in_line).size <= plan_memory(item, ((),) * len(item.steps)).size <= everything


def test_a_chain_needs_the_memory_of_its_two_largest_neighbours() -> None:
    steps = [step([n], [n + 1]) for n in range(6)]
    item = program(steps, [256, 512, 1024, 2048, 1024, 512, 256], [0], [6])
    plan = plan_memory(item, with_barriers(steps))
    assert plan.size == 1024 + 2048 + 256 + 256  # and its input and output


def test_scratch_memory_of_steps_side_by_side_is_their_own() -> None:
    steps = [step([0], [1 + group], 0, group, 3 + group) for group in (0, 1)]
    item = program(steps, [8, 8, 8, 5000, 5000], [0], [1, 2])
    plan = plan_memory(item, with_barriers(steps))
    assert abs(plan.offsets[3] - plan.offsets[4]) >= 5000


@settings(max_examples=40, deadline=None)
@given(programs(), orders)
def test_what_a_step_reads_has_been_written(item: Program, order: object) -> None:
    before = ancestors(order(item.steps))  # type: ignore[operator]
    writer = {v: n for n, s in enumerate(item.steps) for v in s.writes}
    for number, each in enumerate(item.steps):
        assert all(before[number] >> writer[v] & 1 for v in each.reads if v in writer)


@settings(max_examples=40, deadline=None)
@given(programs())
def test_a_stage_begins_when_the_stage_before_has_ended(item: Program) -> None:
    before = ancestors(with_barriers(item.steps))
    for one, other in combinations(range(len(item.steps)), 2):
        a, b = item.steps[one], item.steps[other]
        same_stream = (a.stage, a.group) == (b.stage, b.group)
        assert bool(before[other] >> one & 1) == (a.stage < b.stage or same_stream)


@settings(max_examples=40, deadline=None)
@given(programs())
def test_true_dependencies_are_no_more_than_the_data_flow(item: Program) -> None:
    dependencies = true_only(item.steps)
    writer = {v: n for n, s in enumerate(item.steps) for v in s.writes}
    for number, needed in enumerate(dependencies):
        read = {writer[v] for v in item.steps[number].reads if v in writer}
        assert set(needed) <= read
    assert ancestors(dependencies) == ancestors(
        tuple(tuple(sorted({writer[v] for v in s.reads if v in writer})) for s in item.steps)
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(0, 11)), max_size=12))
def test_reduction_keeps_the_order_and_nothing_more(wanted: list[set[int]]) -> None:
    direct = [{n for n in needed if n < step} for step, needed in enumerate(wanted)]
    result = reduced(direct)
    assert ancestors(result) == ancestors(tuple(tuple(sorted(needed)) for needed in direct))
    for number, needed in enumerate(result):
        for one in needed:
            fewer = (*result[:number], tuple(n for n in needed if n != one), *result[number + 1 :])
            assert ancestors(fewer) != ancestors(result)
    down, up = descendants(result), ancestors(result)
    pairs = [(a, b) for a in range(len(result)) for b in range(len(result))]
    assert all(down[a] >> b & 1 == up[b] >> a & 1 for a, b in pairs)


@settings(max_examples=40, deadline=None)
@given(programs(), orders)
def test_lanes_add_no_order(item: Program, order: object) -> None:
    dependencies = order(item.steps)  # type: ignore[operator]
    placement = place(dependencies)
    # What the streams and events of `lanes.enqueue` mean: a step follows the one before on its lane, and its waits.
    last: dict[int, int] = {}
    meant: list[set[int]] = []
    for number, lane in enumerate(placement.lane):
        meant.append({*placement.waits[number], *([last[lane]] if lane in last else [])})
        last[lane] = number
    assert ancestors(reduced(meant)) == ancestors(dependencies)
    assert placement.lane[0] == 0
    assert {n for needed in placement.waits for n in needed} | {*placement.ends} == placement.records
    finals = {n for n in ends(dependencies) if placement.lane[n] != 0}
    assert finals == {*placement.ends}


@settings(max_examples=40, deadline=None)
@given(programs(), st.randoms())
def test_groups_are_launched_in_any_order_and_steps_of_a_group_in_theirs(item: Program, random: object) -> None:
    places = sorted({(s.stage, s.group) for s in item.steps})
    rank = {place: random.random() for place in places}  # type: ignore[attr-defined]
    steps = reordered(item.steps, rank)
    assert sorted(map(id, steps)) == sorted(map(id, item.steps))
    for place_ in places:
        own = [s for s in item.steps if (s.stage, s.group) == place_]
        assert [s for s in steps if (s.stage, s.group) == place_] == own
    check_memory(Program(item.values, steps, item.inputs, item.outputs, item.shapes), true_only(steps))
    assert [s.stage for s in steps] == sorted(s.stage for s in steps)
