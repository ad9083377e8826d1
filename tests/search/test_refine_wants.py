"""What refinement asks to be measured, and what it keeps."""

from __future__ import annotations

import math

import pytest

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.schedule import Certificate, Schedule, ScheduledStage
from iosfarm.ir.stage import Stage
from iosfarm.search.refine import Refinement, refine

from test_moves import forms_of, moves  # isort: skip
from refine_examples import CONCURRENT, START, favouring, network, plain, staged, written

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
