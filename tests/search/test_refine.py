"""Refinement: each kind of move is found where it wins, and what comes out is what was promised."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.schedule import Certificate, Schedule, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.kernels.sim.devices import DEVICES
from iosfarm.kernels.sim.model import StageModel
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.forms import Form, Move
from iosfarm.search.parts import cut
from iosfarm.search.refine import Refinement, _best, refine
from iosfarm.zoo import load

from search_graphs import graphs  # isort: skip - beside this file
from test_moves import forms_of, moves, walk, schedule_of  # isort: skip

Groups = tuple[tuple[str, ...], ...]
Written = tuple[int, str, str]
"""A part, a strategy, and groups: `a b|c` are two."""


def staged(*stages: Written) -> Schedule:
    return Schedule(tuple(ScheduledStage(p, s, tuple(tuple(g.split()) for g in t.split("|"))) for p, s, t in stages))


def written(schedule: Schedule) -> set[tuple[str, frozenset[frozenset[str]]]]:
    return {(s.strategy, frozenset(map(frozenset, s.groups))) for s in schedule.stages}


def plain(stage: Stage) -> float:
    """Seconds: each stage costs 1 and each operator 10; groups do not help each other at all, nor does merging."""
    return 1.0 + 10.0 * len(list(stage.operators)) + 1.5 * (len(stage.groups) - 1)


def favouring(graph: Graph, strategy: str, groups: str) -> Callable[[Stage], float]:
    """`plain`, but for one stage that costs half of it."""
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    chosen = [[index[name] for name in group.split()] for group in groups.split("|")]
    key = canonical_stage(graph, chosen, strategy).key
    return lambda stage: plain(stage) / (2 if stage.key == key else 1)


def network() -> Graph:
    """stem -> (one, three, pool -> tail), one -> last; and a second input that other reads."""
    b = GraphBuilder("net")
    stem = b.conv2d(b.input((8, 8, 8)), 8, 1, name="stem")
    one = b.conv2d(stem, 4, 1, name="one")
    three = b.conv2d(stem, 6, 3, padding=1, name="three")
    pool = b.operator("max_pool", [stem], name="pool", kernel=(3, 3), padding=(1, 1))
    tail = b.operator("relu", [pool], name="tail")
    last = b.conv2d(one, 4, 3, name="last")
    other = b.operator("sigmoid", [b.input((8, 8, 8))], name="other")
    return b.build(three, tail, last, other)


CONCURRENT, MERGE, MIXED = "concurrent", "merge", "mixed"
START = (0, CONCURRENT, "stem")
KINDS: dict[str, tuple[list[Written], tuple[str, str], str]] = {
    "a unit of the next part runs earlier, in a group of its own": (
        [START, (0, CONCURRENT, "one|three"), (1, CONCURRENT, "pool tail|last|other")],
        (CONCURRENT, "one|three|other"),
        "stages 1 and 2: other runs in the first, in a group of its own",
    ),
    "a group of the next part runs earlier": (
        [START, (0, CONCURRENT, "one|three"), (1, CONCURRENT, "pool tail|last|other")],
        (CONCURRENT, "one|three|pool tail"),
        "stages 1 and 2: pool, tail runs in the first, in a group of its own",
    ),
    "a unit of the next part runs earlier, behind what it reads": (
        [START, (0, CONCURRENT, "one|three"), (1, CONCURRENT, "pool tail|last|other")],
        (CONCURRENT, "one last|three"),
        "stages 1 and 2: last runs in the first, in the group of one",
    ),
    "a unit is put off to the next part": (
        [START, (0, CONCURRENT, "one|three|pool"), (1, CONCURRENT, "last|tail|other")],
        (CONCURRENT, "last|tail|other|three"),
        "stages 1 and 2: three is put off to the second, in a group of its own",
    ),
    "a unit is put off to the next part, before what reads it": (
        [START, (0, CONCURRENT, "one|three|pool"), (1, CONCURRENT, "last|tail|other")],
        (CONCURRENT, "last|pool tail|other"),
        "stages 1 and 2: pool is put off to the second, in the group of tail",
    ),
    "a stage vanishes": (
        [START, (0, CONCURRENT, "one|three|pool"), (1, CONCURRENT, "last|tail|other")],
        (CONCURRENT, "one last|three|pool tail|other"),
        "stages 1 and 2: both at once",
    ),
    "two groups are merged beside a third": (
        [START, (0, CONCURRENT, "one|three|pool tail"), (0, CONCURRENT, "last|other")],
        (MIXED, "one three|pool tail"),
        "stage 1: one, three merged beside the rest",
    ),
    "a merge stage joins its neighbour": (
        [START, (0, CONCURRENT, "pool tail|other"), (0, MERGE, "one|three"), (0, CONCURRENT, "last")],
        (MIXED, "one three|pool tail|other"),
        "stages 1 and 2: one, three runs in the first, in a group of its own",
    ),
    "a merge stage is put off to its neighbour": (
        [START, (0, MERGE, "one|three"), (0, CONCURRENT, "pool tail|other"), (0, CONCURRENT, "last")],
        (MIXED, "one three|pool tail|other"),
        "stages 1 and 2: one, three is put off to the second, in a group of its own",
    ),
    "a convolution is merged with one of the stage before": (
        [START, (0, CONCURRENT, "three|pool"), (0, CONCURRENT, "one last|tail|other")],
        (MIXED, "one three|pool"),
        "stages 1 and 2: one runs in the first, merged with three",
    ),
    "two groups on one stream": (
        [START, (0, CONCURRENT, "one last|three|pool tail|other")],
        (CONCURRENT, "one last|three|pool tail other"),
        "stage 1: pool, tail and other on one stream",
    ),
    "a stage on the stream of another": (
        [START, (0, CONCURRENT, "one last|three|pool tail"), (0, CONCURRENT, "other")],
        (CONCURRENT, "one last|three other|pool tail"),
        "stages 1 and 2: other runs in the first, on the stream of three",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_move(kind: str) -> None:
    stages, (strategy, groups), description = KINDS[kind]
    graph, schedule = network(), staged(*stages)
    cost = favouring(graph, strategy, groups)
    known: dict[str, float] = {}
    first = Refinement(graph, "nhwc", schedule, max_groups=8, seconds=known.get)
    while wanted := first.wanted(50):
        known |= {key: cost(stage) for key, stage in wanted.items()}
    refined, won = first.apply()
    assert (strategy, frozenset(frozenset(g.split()) for g in groups.split("|"))) in written(refined)
    assert description in {item.description for item in won}
    assert (refined.method, refined.certificate) == ("refined", None)
    check(graph, refined, cost)
    before = sum(cost(item.stage) for item in schedule.place(graph, "nhwc"))
    assert refined.predicted == pytest.approx(before - sum(item.before - item.after for item in won))


def check(graph: Graph, schedule: Schedule, cost: Callable[[Stage], float]) -> None:
    for stage, item in zip(schedule.stages, schedule.place(graph, "nhwc"), strict=True):
        assert (stage.key, stage.predicted) == (item.key, cost(item.stage))


def monotone(stage: Stage) -> float:
    """A larger stage never takes less: streams as long as their units, in part side by side."""

    def unit(number: int) -> float:
        text = repr([(o.kind, o.shape, sorted(o.attributes)) for o in units[number].operators])
        return 1 + int(hashlib.sha256(text.encode()).hexdigest(), 16) % 7

    units = list(stage.units)
    places = {u.first: i for i, u in enumerate(units)}
    times = []
    for stream in stage.streams:
        each = [unit(places[u.first]) for u in stream.units]
        times.append(max(each) + (0.2 if stream.merged else 1.0) * (sum(each) - max(each)))
    return 0.5 + max(times) + 0.3 * (sum(times) - max(times)) + 0.4 * (len(times) - 1)


@settings(max_examples=60, deadline=None)
@given(graphs(8), st.integers(0, 2**32))
def test_refined_to_the_end_no_move_wins(graph: Graph, seed: int) -> None:
    schedule = schedule_of(graph, walk(graph, seed, 2))
    asked: list[str] = []

    def latency(stage: Stage) -> float:
        asked.append(stage.key)
        return monotone(stage)

    refined, won = refine(graph, "nhwc", schedule, latency, noise=0.05, inside=True)
    assert len(asked) == len(set(asked))
    if not won:
        assert refined is schedule
        return
    check(graph, refined, monotone)
    before = sum(monotone(item.stage) for item in schedule.place(graph, "nhwc"))
    assert refined.predicted == pytest.approx(before - sum(item.before - item.after for item in won))
    forms = forms_of(graph, refined)
    for move in moves(graph, forms):
        old, new = forms[move.position : move.position + move.replaced], move.forms
        assert total(graph, new) >= 0.95 * total(graph, old) - 1e-9


def total(graph: Graph, forms: Sequence[Form]) -> float:
    return sum(monotone(canonical_stage(graph, form.groups, form.strategy).stage) for form in forms)


MOVES = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2), st.integers(1, 9)), max_size=7)


@given(MOVES)
def test_the_moves_that_win_most_together(drawn: list[tuple[int, int, int]]) -> None:
    gains: list[list[tuple[float, Move]]] = [[] for _ in range(7)]
    worth = {}
    for number, (position, replaced, gain) in enumerate(drawn):
        move = Move(position, replaced, (), str(number))
        gains[position].append((gain, move))
        worth[move] = gain

    def apart(chosen: Sequence[Move]) -> bool:
        places = [p for move in chosen for p in range(move.position, move.position + move.replaced)]
        return len(places) == len(set(places))

    subsets = [c for n in range(len(worth) + 1) for c in combinations(worth, n) if apart(c)]
    chosen = _best(gains)
    assert apart(chosen)
    assert sum(worth[m] for m in chosen) == max(sum(worth[m] for m in subset) for subset in subsets)


# -- what it asks for, and what it keeps -------------------------------------------------------------------------------

NEXT = staged(START, (0, CONCURRENT, "one|three"), (1, CONCURRENT, "pool tail|last|other"))


def test_nothing_is_wanted_twice_and_never_too_much() -> None:
    graph = network()
    known: dict[str, float] = {}
    stages = Refinement(graph, "nhwc", NEXT, seconds=known.get)
    own = {item.key for item in NEXT.place(graph, "nhwc")}
    assert stages.wanted(2).keys() < own
    assert stages.wanted(3).keys() == own
    sizes = []
    while wanted := stages.wanted(5):
        assert not wanted.keys() & known.keys()
        assert all(stage.key == key for key, stage in wanted.items())
        sizes.append(len(wanted))
        known |= {key: plain(stage) for key, stage in wanted.items()}
    assert max(sizes) == 5
    assert stages.wanted(0) == {}


def test_what_the_schedule_predicts_need_not_be_measured() -> None:
    graph = network()
    predicted = Schedule(tuple(ScheduledStage(s.part, s.strategy, s.groups, predicted=9.0) for s in NEXT.stages))
    own = {item.key for item in NEXT.place(graph, "nhwc")}
    assert not Refinement(graph, "nhwc", predicted, seconds=lambda _: None).wanted(1000).keys() & own


def test_nothing_that_cannot_win_is_wanted() -> None:
    graph = network()
    # A unit alone takes longer than any stage of the schedule, even with what noise may hide.
    alone = {canonical_stage(graph, [[unit]]).key for unit in range(len(graph.units))}
    own = {item.key for item in NEXT.place(graph, "nhwc")}
    stages = Refinement(graph, "nhwc", NEXT, seconds={**dict.fromkeys(alone, 1.05), **dict.fromkeys(own, 1.0)}.get)
    both = next(m for m in moves(graph, forms_of(graph, NEXT)) if m.description == "stages 1 and 2: both at once")
    (form,) = both.forms
    # What is left are moves that make one stage of two.
    assert stages.wanted(1000).keys() <= {
        canonical_stage(graph, f.groups, f.strategy).key
        for m in moves(graph, forms_of(graph, NEXT))
        if len(m.forms) < m.replaced
        for f in m.forms
    }
    assert canonical_stage(graph, form.groups, form.strategy).key in stages.wanted(1000)


def test_without_a_win_the_schedule_stays_as_it_is() -> None:
    graph = network()
    certified = Schedule(NEXT.stages, "certified", Certificate("structural", 1.0, 1.1))
    refined, won = refine(graph, "nhwc", certified, lambda stage: float(len(list(stage.units))))
    assert refined is certified
    assert won == ()


def test_a_gain_within_noise_is_none() -> None:
    graph = network()
    cost = favouring(graph, CONCURRENT, "one|three|other")
    half = [refine(graph, "nhwc", NEXT, cost, noise=noise)[1] for noise in (0.05, 0.5)]
    assert half[0]
    assert not half[1]


def test_rounds_lead_across_several_borders() -> None:
    b = GraphBuilder("parts")
    x = b.input((4, 8, 8))
    graph = b.build(*(b.operator("relu", [x], name=name) for name in "abcd"))
    schedule = staged(*((part, CONCURRENT, name) for part, name in enumerate("abcd")))
    known: dict[str, float] = {}
    stages = Refinement(graph, "nhwc", schedule, seconds=known.get)
    rounds = 0
    while wanted := stages.wanted(100):
        known |= dict.fromkeys(wanted, 1.0)
        rounds += bool(stages.apply()[1])
    assert rounds > 1
    assert len(stages.schedule.stages) == 1
    assert stages.apply() == (stages.schedule, ())


def test_what_cannot_run_is_not_chosen() -> None:
    graph = network()
    forbidden = favouring(graph, CONCURRENT, "one|three|other")

    def latency(stage: Stage) -> float:
        if forbidden(stage) < plain(stage):
            raise Infeasible("too large")
        return plain(stage)

    refined, won = refine(graph, "nhwc", NEXT, latency)
    assert (CONCURRENT, frozenset({frozenset({"one"}), frozenset({"three"}), frozenset({"other"})})) not in written(
        refined
    )
    assert all(math.isfinite(item.after) for item in won)


def test_groups_are_limited() -> None:
    graph = network()
    cost = favouring(graph, CONCURRENT, "one|three|other")
    refined, _ = refine(graph, "nhwc", NEXT, cost, max_groups=2)
    assert all(len(stage.groups) <= 3 for stage in refined.stages)
    assert not any({"other"} in map(set, s.groups) and {"one"} in map(set, s.groups) for s in refined.stages)


def test_another_graph_is_refused() -> None:
    b = GraphBuilder("another")
    with pytest.raises(UsageError, match="no unit 'stem'"):
        Refinement(b.build(b.relu(b.input((4, 4, 4)))), "nhwc", NEXT, seconds=lambda _: None)


# -- a network on a simulated device -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start", "least"),
    [("greedy", greedy, 0.02), ("sequential", sequential, 0.05)],
    ids=["greedy", "sequential"],
)
def test_nasnet(name: str, start: Callable[..., Schedule], least: float) -> None:
    """With 150 measurements on a simulated V100, what the baselines leave across cells and on streams."""
    graph = load("nasnet_large")
    latency = StageModel(DEVICES["v100"]).seconds
    schedule = start(graph, cut(graph), "nhwc")
    before = sum(latency(item.stage) for item in schedule.place(graph, "nhwc"))
    refined, won = refine(graph, "nhwc", schedule, latency, max_groups=8, max_group_size=3, most=150)
    check(graph, refined, latency)
    assert refined.predicted is not None
    assert sum(item.before - item.after for item in won) == pytest.approx(before - refined.predicted)
    assert refined.predicted < (1 - least) * before, f"{name}: {before * 1e3:.3f} to {refined.predicted * 1e3:.3f} ms"
