"""What a search asks for towards its end, when nothing is left, and when answers do not come."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.stage import Stage
from iosfarm.search.calibration import sample_size
from iosfarm.search.method import Method
from iosfarm.search.solver import NoScheduleError, solution, solve
from iosfarm.search.stage_search import StageSearch

from search_costs import device, large, optimum  # isort: skip
from search_graphs import parallel, whole  # isort: skip


@pytest.mark.parametrize("method", [Method(), Method(certificate="structural"), Method(name="exhaustive")])
def test_nothing_to_ask_when_all_is_known(method: Method) -> None:
    problem, _ = large(0)
    costs = device(problem, np.random.default_rng(0))
    search = StageSearch([problem], method)
    for number in range(search.class_count):
        search.tell(number, float(costs[number]))
    assert search.ask(8) == []
    assert not search.waiting
    assert search.reached
    assert search.rounds == 0
    found = solution(search, problem)
    assert found.certificate.kind == "exhaustive"
    assert found.predicted == pytest.approx(optimum(problem, costs))


@pytest.mark.parametrize("method", [Method(gap=0, confidence=0.9), Method(gap=0, certificate="structural")])
def test_answers_in_any_order(method: Method) -> None:
    """Asked again before the answers came, it repeats nothing; what was forgotten is asked for again."""
    problem, _ = large(1)
    costs = device(problem, np.random.default_rng(3), smooth=4.0)
    search = StageSearch([problem], method)
    rng = np.random.default_rng(0)
    waiting: list[int] = []
    ever: list[int] = []
    while True:
        chosen = search.ask(8)
        assert not set(chosen) & set(ever)
        ever += chosen
        waiting += chosen
        assert search.waiting == bool(waiting)
        if not waiting:
            break
        rng.shuffle(waiting)
        for _ in range(int(rng.integers(1, len(waiting) + 1))):
            number = waiting.pop()
            search.tell(number, float(costs[number]))
    if method.certificate == "structural":
        assert search.bound().upper == pytest.approx(optimum(problem, costs), rel=1e-11)
    assert search.reached


def test_asks_ahead_of_its_answers() -> None:
    """What is waiting counts as if its answer were the expected one, so that many devices have work."""
    problem, _ = large(1)
    costs = device(problem, np.random.default_rng(3), smooth=4.0)
    search = StageSearch([problem], Method(gap=0.0, certificate="structural"))
    for number in search.ask(64):
        search.tell(number, float(costs[number]))
    asked = [len(search.ask(8)) for _ in range(10)]
    assert min(asked) > 0


@pytest.mark.parametrize("method", [Method(confidence=0.9), Method(certificate="structural"), Method("exhaustive")])
def test_what_was_forgotten_is_asked_for_again(method: Method) -> None:
    search = StageSearch([large(1)[0]], method)
    first = search.ask(8)
    assert search.ask(8) == []
    search.forget_asked()
    assert not search.waiting
    assert search.ask(8) == first


@pytest.mark.parametrize("lost", ["blocked", "infeasible"])
def test_the_random_sample_makes_up_for_what_it_loses(lost: str) -> None:
    """Statistics need so many latencies; a share of the sample has none."""
    problem, _ = large(0)
    costs = device(problem, np.random.default_rng(0), smooth=4.0)
    search = StageSearch([problem], Method(gap=0.0, confidence=0.9))
    units = set(problem.classes[problem.singles].tolist())
    for _ in range(2):
        for number in search.ask(8):
            if number % 2 or number in units:
                search.tell(number, float(costs[number]))
            elif lost == "blocked":
                search.block(number)
            else:
                search.tell(number, math.inf)
    search.ask(8)
    sampled = [
        n for n in np.flatnonzero(search.predictions.population) if not np.isnan(search.seconds[n]) or search._asked[n]
    ]
    usable = [n for n in sampled if not np.isinf(search.seconds[n])]
    assert len(usable) > sample_size(0.9)
    assert search.bound().statistical


@pytest.mark.parametrize("method", ["certified", "exhaustive"])
def test_part_of_one_unit(method: str) -> None:
    graph = parallel([1])
    part = whole(graph)
    one = type(part)(graph, 0, part.units[:1])
    found = solve(one, lambda _: 2.0, method=method, gap=0)
    assert [stage.groups for stage in found.stages] == [((graph.units[0].name,),)]
    assert (found.predicted, found.certificate.kind, found.rounds) == (2.0, "exhaustive", 1)
    assert (found.counts.states, found.counts.transitions, found.counts.known) == (1, 1, 1)
    with pytest.raises(NoScheduleError, match="cannot run"):
        solve(one, partial(_infeasible), method=method)


def _infeasible(_: Stage) -> float:
    raise Infeasible("made up")
