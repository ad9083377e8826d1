"""What a report says, before it is written as anything."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_examples import Searched

from iosfarm.db import LatencyDatabase
from iosfarm.farm.schedules.explaining import explain, explain_all
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.farm.schedules.schedule_format import ScheduleFile, StageEntry
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.report.building import describe, report_on
from iosfarm.report.contents import Report, ScheduleReport
from iosfarm.report.numbers import milliseconds, percent, times
from iosfarm.report.rendering import render
from iosfarm.report.sources import Source
from iosfarm.report.text import blocks
from iosfarm.report.timeline import timeline
from iosfarm.search.baselines import greedy
from iosfarm.search.parts import cut

Change = Callable[[dict[str, Any]], object]


def test_every_unit_has_its_place(report: Report) -> None:
    for schedule in report.schedules:
        placed = sorted(unit for stage in schedule.stages for box in stage.boxes for unit in box.units)
        assert placed == list(range(len(schedule.units)))
        for number, stage in enumerate(schedule.stages):
            assert {schedule.units[unit].stage for box in stage.boxes for unit in box.units} == {number}


def test_lengths_are_those_of_the_file(report: Report, searched: Searched) -> None:
    document = json.loads(searched.squeezenet.read_text())
    (schedule,) = [s for s in report.schedules if s.model == "squeezenet"]
    assert schedule.timed
    assert schedule.weighed
    assert [stage.seconds for stage in schedule.stages] == [stage["predicted"] for stage in document["stages"]]
    assert schedule.sequential_length == pytest.approx(document["latencies"]["sequential"]["predicted"])
    assert schedule.length == pytest.approx(document["latencies"][document["chosen"]]["predicted"])
    measured = {name: entry["measured"] for name, entry in document["latencies"].items()}
    assert (schedule.sequential, schedule.best) == (measured["sequential"], measured[document["chosen"]])
    assert schedule.speedup == pytest.approx(measured["sequential"] / measured[document["chosen"]])


latency = st.floats(1e-9, 10.0)


@settings(deadline=None)
@given(st.data())
def test_a_stage_is_as_long_as_its_longest_stream(searched: Searched, data: st.DataObject) -> None:
    content, graph = load(searched.sample)
    alone = {unit.name: data.draw(latency) for unit in graph.units}
    stages = [stage.model_copy(update={"predicted": data.draw(latency)}) for stage in content.stages]
    line = timeline(content.model_copy(update={"alone": alone, "stages": stages}), graph)
    assert list(line.alone) == list(alone.values())
    assert sum(line.share) == pytest.approx(sum(line.seconds))
    for number, boxes in enumerate(line.boxes):
        for row in {box.row for box in boxes}:
            mine = [box for box in boxes if box.row == row]
            ends = [box.begin + box.seconds for box in mine]
            assert mine[0].begin == 0
            assert [box.begin for box in mine[1:]] == ends[:-1]
            assert ends[-1] <= line.seconds[number] * (1 + 1e-9)
        assert max(box.begin + box.seconds for box in boxes) == pytest.approx(line.seconds[number])
        members = [unit for box in boxes for unit in box.units]
        assert sum(line.share[unit] for unit in members) == pytest.approx(line.seconds[number])


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Convolutions, sums and units of two operators, on anything that was before; all are outputs."""
    b = GraphBuilder("random")
    values = [b.input((4, 8, 8))]
    for number in range(draw(st.integers(1, 12))):
        x, y = (draw(st.sampled_from(values)) for _ in range(2))
        if x != y:
            values.append(b.add(x, y))
        elif draw(st.booleans()):
            values.append(b.conv2d(x, 4, 3, padding=1))
        else:
            with b.unit(f"two_{number}"):
                values.append(b.conv2d(b.relu(x), 4, 1))
    return b.build(*values)


@settings(max_examples=20, deadline=None)
@given(networks(), st.data())
def test_any_network_can_be_reported(searched: Searched, graph: Graph, data: st.DataObject) -> None:
    content, _ = load(searched.sample)
    stages = [
        StageEntry(
            part=stage.part,
            strategy="concurrent",
            groups=[*map(list, stage.groups)],
            key="",
            predicted=data.draw(latency),
        )
        for stage in greedy(graph, cut(graph), content.layout).stages
    ]
    alone = {unit.name: data.draw(latency) for unit in graph.units}
    changed = content.model_copy(update={"stages": stages, "alone": alone, "graph": graph.to_json()})
    found = describe(Source(changed, graph, "random.json"), None)
    placed = sorted(unit for stage in found.stages for box in stage.boxes for unit in box.units)
    assert placed == list(range(len(graph.units)))
    assert len({(unit.layer, unit.column) for unit in found.units}) == len(graph.units)
    assert all(found.units[source].layer < unit.layer for unit in found.units for source in unit.reads)
    assert found.sequential_length == pytest.approx(sum(alone.values()))
    report = Report("random", "2026-01-02T00:00:00+00:00", "0", (), (found,))
    data_block = render(report).split('id="data">')[1].split("</script>")[0]
    assert json.loads(data_block) == json.loads(json.dumps(asdict(report)))


def test_the_time_is_divided_without_rest(report: Report) -> None:
    for schedule in report.schedules:
        for shares in (schedule.kinds, schedule.parts):
            assert sum(share.units for share in shares) == len(schedule.units)
            assert sum(share.sequential for share in shares) == pytest.approx(schedule.sequential_length)
            assert sum(share.chosen for share in shares) == pytest.approx(schedule.length)


def test_what_only_the_database_knows(report: Report, searched: Searched) -> None:
    with LatencyDatabase(searched.database, readonly=True) as database:
        for path, schedule in zip((searched.squeezenet, searched.sample), report.schedules, strict=True):
            content, graph = load(path)
            for number, stage in enumerate(schedule.stages):
                expected = explain(content, graph, number, database, most=5)
                found = stage.alternatives
                assert found is not None
                assert (found.others, found.measured) == (expected.others, expected.measured)
                assert [c.why for c in found.choices] == [row.why for row in (*expected.best, *expected.simpler)]
                assert stage.samples is not None
                assert math.isclose(sorted(stage.samples)[len(stage.samples) // 2], stage.seconds, rel_tol=0.1)


def test_all_stages_explained_at_once_are_as_each_alone(searched: Searched) -> None:
    content, graph = load(searched.squeezenet)
    with LatencyDatabase(searched.database, readonly=True) as database:
        together = list(explain_all(content, graph, database, most=3))
        assert len(together) == len(content.stages)
        for number in range(0, len(together), 4):
            assert together[number] == explain(content, graph, number, database, most=3)


def without(*names: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        for name in names:
            del document[name]

    return change


def unknown_stage(document: dict[str, Any]) -> None:
    document["stages"][0]["predicted"] = None


def not_measured(document: dict[str, Any]) -> None:
    for entry in document["latencies"].values():
        entry |= {"measured": None, "samples": []}


def no_history(document: dict[str, Any]) -> None:
    document["certificate"]["history"] = []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("alone"), "what each unit takes alone"),
        (unknown_stage, "how long the stages take"),
        (not_measured, "latencies end to end"),
        (no_history, "how the certificate came about"),
        (lambda document: document.update(certificate=None), "a certificate"),
    ],
)
def test_what_is_missing_is_said(searched: Searched, tmp_path: Path, change: Change, said: str) -> None:
    (whole,) = report_on([str(searched.sample)]).schedules
    assert [text.split(":")[0] for text in whole.missing] == [
        "the samples of single stages and what the alternatives cost"
    ]
    (changed,) = report_on([str(searched.changed(tmp_path, change))]).schedules
    assert any(text.startswith(said) for text in changed.missing)


def test_a_file_without_latencies_of_units_still_adds_up(searched: Searched, tmp_path: Path) -> None:
    path = searched.changed(tmp_path, without("alone"))
    (found,) = report_on([str(path)]).schedules
    expected = load(path)[0].latencies["sequential"].predicted
    assert not found.weighed
    assert found.sequential_length == pytest.approx(expected)
    assert all(stage.alone is None for stage in found.stages)


def test_predicted_latencies_stand_in_and_are_called_so(searched: Searched, tmp_path: Path) -> None:
    path = searched.changed(tmp_path, not_measured)
    (found,) = report_on([str(path)]).schedules
    content: ScheduleFile = load(path)[0]
    assert not found.measured
    assert found.sequential == content.latencies["sequential"].predicted
    assert found.best == content.latencies[content.chosen].predicted


def test_a_database_without_this_device_is_said(searched: Searched, tmp_path: Path) -> None:
    with LatencyDatabase(str(tmp_path / "other.db")):
        pass
    (found,) = report_on([str(searched.sample)], str(tmp_path / "other.db")).schedules
    assert any("has none of this device and environment" in text for text in found.missing)
    assert all(stage.samples is None for stage in found.stages)
    assert any("holds no latencies" in note for s in found.stages if s.alternatives for note in s.alternatives.notes)


def test_a_run_is_its_schedules(searched: Searched, run_number: int) -> None:
    report = report_on([str(run_number)], searched.database, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    assert [schedule.model for schedule in report.schedules] == ["sample", "squeezenet"]
    assert [schedule.where for schedule in report.schedules] == [f"run {run_number}"] * 2
    assert [(run.id, run.facts["outcome"]) for run in report.runs] == [(run_number, "finished")]
    of_files = report_on([str(searched.sample), str(searched.squeezenet)], searched.database).schedules
    for ours, theirs in zip(report.schedules, of_files, strict=True):
        assert (ours.stages, ours.units, ours.latencies) == (theirs.stages, theirs.units, theirs.latencies)
    assert report.created == "2026-01-02T00:00:00+00:00"
    json.dumps(asdict(report), allow_nan=False)


def test_a_search_without_a_schedule_is_not_left_out(searched: Searched, tmp_path: Path) -> None:
    shutil.copy(searched.database, tmp_path / "copy.db")
    with LatencyDatabase(str(tmp_path / "copy.db")) as database:
        (run,) = database.runs()
        search = database.start_search("alexnet", {"device": "cpu", "batch": 4}, run_id=run.id)
        database.finish_search(search, "interrupted", {})
    report = report_on([str(run.id)], str(tmp_path / "copy.db"))
    assert [found.without for found in report.runs] == [
        ("alexnet, device cpu, batch 4: interrupted, without a schedule",)
    ]
    assert "alexnet, device cpu, batch 4" in render(report)
    assert any("alexnet, device cpu, batch 4" in str(block) for block in blocks(report))


def test_what_was_interrupted_is_partial(searched: Searched, tmp_path: Path) -> None:
    path = searched.changed(tmp_path, lambda document: document.update(interrupted=True))
    report = report_on([str(path), str(searched.sample)])
    assert [schedule.interrupted for schedule in report.schedules] == [True, False]
    assert "partial: the search was interrupted" in render(report)
    assert any("partial: the search was interrupted" in str(block) for block in blocks(report))


def test_simulated_numbers_are_called_so(report: Report) -> None:
    schedule: ScheduleReport = report.schedules[0]
    assert schedule.simulated
    assert "simulated" in str(schedule.facts["schedule"]["numbers"])


@given(st.floats(1e-9, 1e4))
def test_numbers_keep_their_digits(value: float) -> None:
    assert float(milliseconds(value).removesuffix(" ms")) / 1e3 == pytest.approx(value, rel=1e-3)
    assert float(times(value).removesuffix("×")) == pytest.approx(value, rel=1e-2)
    assert float(percent(value).removesuffix("%")) / 100 == pytest.approx(value, abs=5.1e-4)


def test_numbers_that_are_not_known() -> None:
    assert {milliseconds(None), percent(None), times(None)} == {"–"}
    assert milliseconds(0.0) == "0 ms"
    assert milliseconds(0.00999995) == "10.00 ms"
