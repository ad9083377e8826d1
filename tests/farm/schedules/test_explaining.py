"""What the alternatives to a stage cost: the numbers add up, against brute force and against the certificate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, branches, drive, job

import iosfarm
from iosfarm.db import LatencyDatabase
from iosfarm.farm.schedules.explaining import explain
from iosfarm.farm.schedules.explanation import Explanation, NamedStage, Row
from iosfarm.farm.schedules.schedule_file import document
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.search.method import Method
from iosfarm.search.space import SpaceSettings


def searched(database: LatencyDatabase, graph: Graph, **settings: object) -> ScheduleFile:
    (result,) = drive([job(graph, **{"refine": False, **settings})], database)
    return document(result)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[LatencyDatabase]:
    with LatencyDatabase(str(tmp_path / "latency.db")) as opened:
        yield opened


class Brute:
    """Concurrent stages of a graph of one part, and the least latency of what runs before each of them."""

    def __init__(self, graph: Graph, content: ScheduleFile, database: LatencyDatabase) -> None:
        self.graph, self.content = graph, content
        rows = database.query(device=content.device.kind)
        self.latencies = {row.stage_key: row.median for row in sorted(rows, key=lambda row: row.id)}
        self.best: dict[frozenset[int], float] = {frozenset(): 0.0}

    def endings(self, state: frozenset[int]) -> Iterator[tuple[frozenset[int], frozenset[frozenset[int]], float]]:
        before = self.graph.unit_predecessors
        for size in range(1, len(state) + 1):
            for chosen in map(frozenset, combinations(sorted(state), size)):
                if any(chosen & set(before[unit]) for unit in state - chosen):
                    continue
                groups = self.components(chosen)
                if max(map(len, groups)) <= 3:
                    stage = canonical_stage(self.graph, [sorted(g) for g in groups], layout=self.content.layout)
                    seconds = self.latencies[stage.key]
                    assert seconds is not None
                    yield chosen, groups, seconds

    def components(self, chosen: frozenset[int]) -> frozenset[frozenset[int]]:
        before = self.graph.unit_predecessors
        groups: list[set[int]] = []
        for unit in sorted(chosen):
            joined = [group for group in groups if group & set(before[unit])]
            groups = [group for group in groups if group not in joined] + [{unit}.union(*joined)]
        return frozenset(map(frozenset, groups))

    def least(self, state: frozenset[int]) -> float:
        if state not in self.best:
            self.best[state] = min(s + self.least(state - chosen) for chosen, _, s in self.endings(state))
        return self.best[state]


def groups_of(graph: Graph, stage: NamedStage) -> frozenset[frozenset[int]]:
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    return frozenset(frozenset(index[name] for name in group) for group in stage.groups)


def test_every_alternative_as_brute_force_has_it(database: LatencyDatabase) -> None:
    graph = branches()
    content = searched(database, graph, method=EXHAUSTIVE, space=SpaceSettings(3, 8, ("concurrent",)))
    brute = Brute(graph, content, database)
    index = {unit.name: i for i, unit in enumerate(graph.units)}
    units = [frozenset(index[name] for group in entry.groups for name in group) for entry in content.stages]
    for number in range(len(content.stages)):
        found = explain(content, graph, number, database, most=10**6)
        part = content.stages[number].part
        together = [n for n, entry in enumerate(content.stages) if entry.part == part]
        state = frozenset().union(*(units[n] for n in together if n <= number))
        after = sum(content.stages[n].predicted or math.nan for n in together if n > number)
        wanted = {
            groups: (seconds, after + seconds + brute.least(state - chosen))
            for chosen, groups, seconds in brute.endings(state)
        }
        rows = {groups_of(graph, row.stages[0]): row for row in (found.chosen, *found.best)}
        assert rows.keys() == wanted.keys()
        assert found.others == found.measured == len(found.best) == len(wanted) - 1
        for groups, (seconds, whole) in wanted.items():
            assert rows[groups].own.known == pytest.approx(seconds, rel=1e-9)
            assert rows[groups].whole.known == pytest.approx(whole, rel=1e-9)
            assert rows[groups].expected is None
        totals = [row.whole.known for row in found.best]
        assert totals == sorted(totals, key=lambda seconds: seconds or 0)
        assert not found.notes


def whole_of(content: ScheduleFile, part: int) -> float:
    return sum(entry.predicted or math.nan for entry in content.stages if entry.part == part)


def check(content: ScheduleFile, number: int, found: Explanation) -> None:
    """What holds of every explanation of a searched schedule of which nothing was measured since."""
    entry = content.stages[number]
    total = whole_of(content, entry.part)
    assert found.chosen.own.known == pytest.approx(entry.predicted, rel=1e-9)
    assert found.chosen.whole.known == pytest.approx(total, rel=1e-9)
    assert found.chosen.stages[0].strategy == entry.strategy
    for row in found.best:
        assert row.stages != found.chosen.stages
        if row.whole.known is not None:
            assert row.own.known is not None
            assert row.whole.known >= total * (1 - 1e-9)
            assert row.why.startswith(("slower by", "just as fast"))
            assert row.whole.at_least <= row.whole.known * (1 + 1e-9)
        else:
            assert row.own.known is None
            assert row.own.at_least > 0
            assert row.expected is None or row.expected >= row.own.at_least
            assert row.why.startswith("cannot win" if row.whole.at_least >= total else "not ruled out")
    for row in found.simpler:
        assert row.whole.at_least >= total * (1 - 1e-9)
        assert row.whole.at_least - total == pytest.approx(
            row.own.at_least - (found.chosen.own.known or math.nan), rel=1e-6, abs=1e-12
        )


def ranks(rows: tuple[Row, ...]) -> list[float]:
    return [row.whole.at_least if row.whole.known is None else row.whole.known for row in rows]


def test_inception_certified(database: LatencyDatabase) -> None:
    graph = iosfarm.load("inception_v3").bind(batch=1, dtype="float32")
    content = searched(database, graph)
    assert content.certificate is not None
    assert content.certificate.kind == "statistical"
    first = {entry.part: number for number, entry in reversed(list(enumerate(content.stages)))}
    bounded = 0
    for part in (2, 5, 11):
        number = first[part]
        found = explain(content, graph, number, database, most=40)
        check(content, number, found)
        assert found.others is not None
        assert found.measured < found.others
        assert ranks(found.best) == sorted(ranks(found.best))
        bounded += sum(row.own.statistical for row in found.best)
        # What is not ruled out is within the gap of the whole network.
        slack = content.certificate.upper - content.certificate.lower
        assert all(seconds >= whole_of(content, part) - slack * (1 + 1e-6) for seconds in ranks(found.best))
    assert bounded > 0
    assert any("regression's bound at 0.99" in row.why for row in found.best)


def test_structural_bounds_are_called_so(database: LatencyDatabase) -> None:
    graph = branches()
    content = searched(database, graph, method=Method(certificate="structural", gap=0.05))
    for number in range(len(content.stages)):
        found = explain(content, graph, number, database, most=1000)
        check(content, number, found)
        assert not any(row.own.statistical or row.whole.statistical for row in found.best)


def test_most_and_what_is_simpler(database: LatencyDatabase) -> None:
    graph = branches()
    content = searched(database, graph, method=EXHAUSTIVE)
    sizes = [sum(map(len, entry.groups)) for entry in content.stages]
    widest = sizes.index(max(sizes))
    few, none = (explain(content, graph, widest, database, most=most) for most in (2, 0))
    assert (len(few.best), len(none.best)) == (2, 0)
    assert few.others == none.others
    alone = few.simpler[-1]
    assert [len(stage.groups) for stage in alone.stages] == [1] * sizes[widest]
    assert alone.own.known is not None
    assert alone.why.startswith("slower by")
    single = sizes.index(1)
    assert explain(content, graph, single, database).simpler == ()


def test_a_schedule_of_a_baseline(database: LatencyDatabase) -> None:
    b = GraphBuilder("chain")
    x = b.input((16, 28, 28))
    for _ in range(3):
        x = b.conv2d(x, 16, 3, padding=1)
    graph = b.build(x)
    content = searched(database, graph, method=EXHAUSTIVE, space=SpaceSettings(1, 1, ("concurrent",)))
    found = explain(content, graph, 1, database)
    assert content.chosen == "sequential"
    assert found.others == 0
    assert found.simpler == ()
    assert found.notes == ()


def test_without_measurements_it_says_so(database: LatencyDatabase, tmp_path: Path) -> None:
    graph = branches()
    content = searched(database, graph)
    with LatencyDatabase(str(tmp_path / "empty.db")) as empty:
        found = explain(content, graph, 0, empty)
    assert found.chosen.whole.known == pytest.approx(whole_of(content, 0))
    assert found.chosen.samples is None
    assert "empty.db holds no latencies" in found.notes[0]
    assert "--db" in found.notes[0]
    unknown = [row for row in found.best if row.own.at_least == 0]
    assert unknown
    assert all(row.own.known is None and "nothing is known" in row.why for row in unknown)


def test_measured_anew_since(database: LatencyDatabase) -> None:
    graph = branches()
    content = searched(database, graph, method=EXHAUSTIVE)
    entries = [entry.model_copy(update={"predicted": (entry.predicted or 0) * 2}) for entry in content.stages]
    found = explain(content.model_copy(update={"stages": entries}), graph, 0, database)
    assert "measured anew since the file was written" in found.notes[0]
    assert found.chosen.whole.known == pytest.approx(whole_of(content, 0))


def test_a_stage_outside_of_the_space(database: LatencyDatabase) -> None:
    """As refinement makes them: `a` and `pool` on one stream, though neither reads from the other."""
    graph = branches()
    content = searched(database, graph, method=EXHAUSTIVE)
    made = [("concurrent", [["a", "pool"]]), ("concurrent", [["b"], ["c"]]), ("concurrent", [["join", "last"]])]
    entries = [
        content.stages[0].model_copy(update={"strategy": s, "groups": g, "key": "", "predicted": 1e-3 * (i + 1)})
        for i, (s, g) in enumerate(made)
    ]
    refined = content.model_copy(update={"stages": entries, "chosen": "refined"})
    found = explain(refined, graph, 0, database)
    assert any("outside of the search space (it was refined)" in note for note in found.notes)
    assert found.chosen.own.known == 1e-3  # by the file: the database never saw it
    assert found.others is not None
    assert found.others > 0
    assert [len(row.stages) for row in found.simpler] == [2]
    assert found.simpler[0].own.known is not None


def test_groups_outside_of_the_space_are_bounded_by_their_units(database: LatencyDatabase) -> None:
    graph = branches()
    content = searched(database, graph, method=EXHAUSTIVE, space=SpaceSettings(1, 8, ("concurrent",)))
    made = [[["a", "c"], ["b"]], [["pool"]], [["join"]], [["last"]]]
    entries = [
        content.stages[0].model_copy(update={"part": int(i > 2), "groups": g, "predicted": 1e-5})
        for i, g in enumerate(made)
    ]
    found = explain(content.model_copy(update={"stages": entries, "chosen": "refined"}), graph, 0, database)
    groups, alone = found.simpler
    assert [len(stage.groups[0]) for stage in groups.stages] == [2, 1]
    assert groups.own.known is None
    assert alone.own.known is not None
    assert 0 < groups.own.at_least < alone.own.known
    assert groups.expected == pytest.approx(alone.own.known)
    assert groups.why.startswith(("not ruled out", "cannot win"))


def test_a_stage_that_spans_parts_is_compared_with_simpler_ones(database: LatencyDatabase) -> None:
    b = GraphBuilder("two blocks")
    x = b.input((16, 14, 14))
    for number in range(2):
        with b.unit(f"left{number}"):
            left = b.conv2d(x, 16, 3, padding=1)
        with b.unit(f"right{number}"):
            right = b.conv2d(x, 16, 1)
        with b.unit(f"join{number}"):
            x = b.concat(left, right)
    graph = b.build(x)
    content = searched(database, graph, method=EXHAUSTIVE)
    assert {entry.part for entry in content.stages} == {0, 1}
    made = [[["left0"], ["right0"]], [["join0", "left1"]], [["right1"]], [["join1"]]]
    entries = [
        content.stages[0].model_copy(
            update={"part": int(i > 1), "strategy": "concurrent", "groups": g, "predicted": 1e-5}
        )
        for i, g in enumerate(made)
    ]
    refined = content.model_copy(update={"stages": entries, "chosen": "refined"})
    across = explain(refined, graph, 1, database)
    assert across.others is None
    assert across.best == ()
    assert len(across.simpler) == 1
    assert any("simpler ones only" in note for note in across.notes)
    after = explain(refined, graph, 2, database)
    assert after.others is None
    before = explain(refined, graph, 0, database)
    assert before.others
    assert any("which counts whole" in note for note in before.notes)


@pytest.mark.parametrize("number", [-1, 99])
def test_no_such_stage(database: LatencyDatabase, number: int) -> None:
    content = searched(database, branches())
    with pytest.raises(UsageError, match=f"there is no stage {number}") as caught:
        explain(content, branches(), number, database)
    assert caught.value.hint == f"stages are 0 to {len(content.stages) - 1}"
