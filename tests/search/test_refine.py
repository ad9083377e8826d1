"""Refinement: each kind of move is found where it wins, and what comes out is what was promised."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.schedule import Schedule
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
from refine_examples import CONCURRENT, MERGE, MIXED, START, Written, check, favouring, network, staged, written

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
