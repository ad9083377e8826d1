"""What the figures hold, on a simulated device without noise: relations that any device would have to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iosfarm.cli import main
from iosfarm.db import LatencyDatabase
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.kernels import open_runtime
from iosfarm.kernels.network import Busy, Span, TellsUtilisation, Traceable
from iosfarm.reproduce import blocks, example, frameworks, latencies, paper, pruning, specialisation, utilisation
from iosfarm.reproduce.figures import FIGURES
from iosfarm.reproduce.lab import Lab, NotPossible
from iosfarm.reproduce.latencies import variant
from iosfarm.reproduce.plots import caption
from iosfarm.reproduce.result import Draft, Status, geometric_mean
from iosfarm.reproduce.runs import make
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.budget import Budget
from iosfarm.search.parts import cut
from iosfarm.zoo.sample import sample
from iosfarm.zoo.weights import random_weights

DEVICE = "sim:v100?noise=0"
GAP = 1.011
"""What a search may miss the best by."""

Row = Mapping[str, Any]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("figures") / "latency.db")


@pytest.fixture
def lab(url: str) -> Lab:
    return Lab(DEVICE, url)


def rows(name: str, lab: Lab) -> list[Row]:
    draft = Draft(FIGURES[name].columns)
    FIGURES[name].make(draft, lab)
    return list(draft.rows)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """SqueezeNet stands for all networks."""
    monkeypatch.setattr(paper, "NETWORKS", ("squeezenet",))
    monkeypatch.setattr(specialisation, "NETWORK", "squeezenet")
    table = {"squeezenet": paper.PRUNING["inception_v3"]}
    monkeypatch.setattr(paper, "PRUNING", table)
    seconds = {"squeezenet": paper.PRUNING_SEARCH_SECONDS["inception_v3"]}
    monkeypatch.setattr(paper, "PRUNING_SEARCH_SECONDS", seconds)


@pytest.mark.usefixtures("small")
def test_more_freedom_is_not_slower(lab: Lab) -> None:
    row, mean = rows("schedules", lab)
    assert row["ios_both"] <= GAP * min(row["ios_merge"], row["ios_parallel"])
    assert row["ios_parallel"] <= GAP * min(row["greedy"], row["sequential"])
    assert row["ios_merge"] <= GAP * row["sequential"]
    assert max(row[f"{name}_normalised"] for name in paper.SCHEDULES) == 1.0
    assert row["sequential_normalised"] == pytest.approx(min(row[name] for name in paper.SCHEDULES) / row["sequential"])
    assert row["paper_ios_both"] == 0.73e-3
    assert (mean["network"], mean["ios_both"]) == (latencies.MEAN, pytest.approx(row["ios_both"]))


@pytest.mark.usefixtures("small")
def test_pruning_costs_latency_and_saves_stages(lab: Lab) -> None:
    found = {(row["r"], row["s"]): row for row in rows("pruning", lab)}
    for (r, s), row in found.items():
        for (wider_r, wider_s), wider in found.items():
            if wider_r >= r and wider_s >= s:
                assert wider["seconds"] <= GAP * row["seconds"]
                assert wider["stages"] >= row["stages"]
    assert next(iter(found)) == (3, 8)  # the widest first, so that the others find what they need


@pytest.mark.usefixtures("small")
def test_a_schedule_is_best_where_it_was_made_for(lab: Lab) -> None:
    found = rows("specialisation", lab)
    assert [row["what"] for row in found] == ["batch size"] * 9 + ["device"] * 4
    for row in found:
        assert row["slower"] == 0 if row["optimised_for"] == row["executed_on"] else row["slower"] >= 1 / GAP - 1
    published = {
        (row["executed_on"], row["optimised_for"]): round(row["paper_seconds"] * 1e3, 6)
        for row in found
        if row["what"] == "device"
    }
    assert published == {
        ("sim:k80", "sim:k80"): 13.87,
        ("sim:k80", DEVICE): 14.65,
        (DEVICE, "sim:k80"): 4.49,
        (DEVICE, DEVICE): 4.03,
    }


def test_last_block_is_drawn_for_both_batches(lab: Lab) -> None:
    draft = Draft(specialisation.BLOCK_COLUMNS)
    specialisation.last_block(draft, lab)
    assert [row["slower"] for row in draft.rows if row["executed_on"] == row["optimised_for"]] == [0, 0]
    assert all(float(row["slower"] or 0) >= 1 / GAP - 1 for row in draft.rows)
    drawings = draft.data["schedules"]
    assert [drawing["label"] for drawing in drawings] == ["optimised for batch 1", "optimised for batch 32"]
    for drawing in drawings:
        units = [unit for stage in drawing["stages"] for group in stage["groups"] for unit in group]
        # The block of Figure 10: nine convolutions (two pairs of 1x3 and 3x1 among them), a pool and the concat.
        assert len(units) == len({unit["name"] for unit in units}) == 11
        assert sum(unit["what"].startswith("conv") for unit in units) == 9


def test_blocks_add_up_to_the_network(lab: Lab) -> None:
    *parts, whole = rows("blocks", lab)
    assert whole["units"] == sum(row["units"] for row in parts) == paper.TABLE_2["inception_v3"]
    for name in ("sequential", "greedy", "ios_both"):
        assert whole[name] == pytest.approx(sum(row[name] for row in parts))
    found = lab.search(lab.network("inception_v3"), variant("ios_both"))
    assert whole["ios_both"] == pytest.approx(found.schedule.predicted)
    assert whole["sequential"] == pytest.approx(found.seconds("sequential"))


def test_the_example_is_drawn_under_three_schedules(lab: Lab) -> None:
    draft = Draft(example.COLUMNS)
    example.three_schedules(draft, lab)
    sequential_row, greedy_row, ours = draft.rows
    assert ours["speedup"] >= greedy_row["speedup"] >= sequential_row["speedup"] == 1  # type: ignore[operator]
    assert [len(drawing["stages"]) for drawing in draft.data["schedules"]] == [row["stages"] for row in draft.rows]
    assert sum(stage["seconds"] for stage in draft.data["schedules"][2]["stages"]) == pytest.approx(ours["seconds"])


def test_nothing_is_searched_or_measured_twice(lab: Lab, url: str) -> None:
    names = ("example", "blocks", "last-block")
    first = {name: rows(name, lab) for name in names}
    with LatencyDatabase(url, readonly=True) as database:
        before = database.stats(), len(database.searches())
    reported: list[object] = []
    again = {name: rows(name, Lab(DEVICE, url, report=reported.append)) for name in names}
    assert again == first
    with LatencyDatabase(url, readonly=True) as database:
        after = database.stats(), len(database.searches())
    assert after == before
    assert reported == []


def test_other_settings_are_another_search(lab: Lab, url: str) -> None:
    graph = lab.network("sample")
    both = lab.search(graph, variant("ios_both"))
    assert Lab(DEVICE, url).search(graph, variant("ios_both")).content.created == both.content.created
    assert lab.search(graph, variant("ios_both", 1)).content.settings.max_group_size == 1
    noisy = Lab("sim:v100", url).search(graph, variant("ios_both"))
    assert noisy.content.device.environment != both.content.device.environment


def test_a_finished_search_answers_whatever_the_budget(lab: Lab, url: str) -> None:
    graph = lab.network("sample", 3)
    whole = lab.search(graph, variant("ios_both"))
    assert Lab(DEVICE, url, budget=Budget(seconds=60)).search(graph, variant("ios_both")) == whole


def test_a_search_that_a_budget_ended_is_not_done_again(lab: Lab, url: str) -> None:
    graph = lab.network("squeezenet", 2)
    budget = Budget(stages=80)
    reported: list[object] = []
    first = Lab(DEVICE, url, budget=budget).search(graph, variant("ios_both"))
    assert first.incomplete
    again = Lab(DEVICE, url, budget=budget, report=reported.append).search(graph, variant("ios_both"))
    assert (again, reported) == (first, [])
    assert not lab.search(graph, variant("ios_both")).incomplete  # without a budget it goes on


def test_a_budget_that_is_too_small_is_a_note(url: str) -> None:
    short = Lab(DEVICE, url, budget=Budget(seconds=0))
    graph = short.network("sample", 2)
    draft = Draft(latencies.PLAIN_COLUMNS)
    latencies._plain(draft, short, "sample", graph)
    assert draft.rows[0]["ios_both"] is None
    assert "budget" in draft.notes[0]


# -- utilisation -------------------------------------------------------------------------------------------------


def test_work_is_the_same_under_every_schedule() -> None:
    """Streams change when the device is busy, not how much it has to do."""
    runtime = open_runtime(DEVICE)
    graph = Lab(DEVICE).network("squeezenet")
    parts = cut(graph)
    work = []
    for schedule in (sequential(graph, parts, runtime.layout), greedy(graph, parts, runtime.layout)):
        with runtime.prepare_schedule(graph, schedule, random_weights(graph)) as executable:
            assert isinstance(executable, TellsUtilisation)
            busy = executable.utilisation()
            (seconds,) = executable.time(1)
        assert all(0 <= item.share <= 1 and item.begin < item.end for item in busy)
        assert all(one.end <= other.begin + 1e-12 for one, other in pairwise(busy))
        assert busy[-1].end <= seconds
        work.append(sum((item.end - item.begin) * item.share for item in busy))
    assert work[0] == pytest.approx(work[1], rel=0.01)


def test_utilisation_rises_where_latency_falls(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utilisation, "NETWORKS", ("sample",))
    before, after = rows("utilisation", lab)
    assert (before["schedule"], after["schedule"]) == ("sequential", "ios-both")
    assert before["relative"] == 1
    assert after["relative"] > 1.1
    assert after["paper_relative"] == paper.ACTIVE_WARPS_RATIO


def test_cores_in_use_follow_from_what_ran_when() -> None:
    stages = (
        ScheduledStage(0, "concurrent", (("a",), ("b",))),
        ScheduledStage(0, "concurrent", (("c",),)),
    )
    spans = [
        Span(0, "one", ("a",), 0.0, 2.0),
        Span(0, "two", ("b",), 1.0, 4.0),
        Span(0, None, ("a", "b"), 0.0, 5.0),
        Span(1, "one", ("c",), 6.0, 7.0),
    ]

    def machine(**properties: object) -> Any:
        return SimpleNamespace(fingerprint=lambda: (SimpleNamespace(properties=properties), None))

    busy = utilisation._of_cores(machine(cores=4), Schedule(stages), spans)
    assert busy == [Busy(0.0, 1.0, 0.5), Busy(1.0, 2.0, 1.0), Busy(2.0, 4.0, 0.5), Busy(6.0, 7.0, 1.0)]
    with pytest.raises(NotPossible, match="how many cores"):
        utilisation._of_cores(machine(), Schedule(stages), spans)


def test_cores_in_use_on_this_machine() -> None:
    runtime = open_runtime("cpu")
    try:
        graph = sample(channels=16)
        for schedule in (sequential(graph, cut(graph), runtime.layout), greedy(graph, cut(graph), runtime.layout)):
            with runtime.prepare_schedule(graph, schedule, random_weights(graph)) as executable:
                assert isinstance(executable, Traceable)
                busy = utilisation._of_cores(runtime, schedule, executable.trace())
            assert busy
            assert all(0 < item.share <= 1 for item in busy)
            assert all(one.end <= other.begin for one, other in pairwise(busy))
    finally:
        runtime.close()


# -- what a device cannot give -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_frameworks_have_a_row_each_on_a_simulated_device(lab: Lab) -> None:
    found = rows("frameworks", lab)
    own = [row for row in found if row["network"] == "squeezenet"]
    assert [row["framework"] for row in own] == [
        name.replace("_", "-") for name in (*paper.FRAMEWORKS, *frameworks.MORE, frameworks.TUNED, "ios_both")
    ]
    assert {row["reason"] for row in own[:-1]} == {"frameworks run on real devices only"}
    assert [row["paper_seconds"] for row in own if row["framework"] == "tensorrt"] == [0.8e-3]
    assert own[-1]["relative"] == 1


def test_a_figure_that_the_device_cannot_give_is_one_clear_result(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utilisation, "TellsUtilisation", type("Other", (), {}))
    result = make(FIGURES["utilisation"], lab)
    assert (result.status, result.rows) == (Status.NOT_POSSIBLE, ())
    assert result.reason == f"{DEVICE}: this device cannot tell how busy it is"


@pytest.fixture
def recording(lab: Lab, url: str, tmp_path: Path) -> str:
    """A replayed device that has recorded the example, but not the random network."""
    rows("example", lab)
    path = tmp_path / "recording.jsonl"
    assert main.run(["db", "export", str(path), "--db", url]) == 0
    return f"replay:{path}"


def test_a_replayed_device_gives_what_was_recorded_and_says_what_was_not(recording: str, tmp_path: Path) -> None:
    lab = Lab(recording, str(tmp_path / "replayed.db"))
    result = make(FIGURES["example"], lab)
    assert result.status is Status.COMPLETE
    assert (result.simulated, result.replayed) == (True, True)
    assert "(simulated)" in caption(result)
    assert make(FIGURES["utilisation"], lab).status is Status.NOT_POSSIBLE
    missing = make(FIGURES["random-320"], lab)
    assert missing.status is Status.NOT_POSSIBLE
    assert "was not recorded" in missing.reason
    with LatencyDatabase(str(tmp_path / "replayed.db"), readonly=True) as database:
        assert database.query(status="failed") == []  # nothing was asked for in vain


@pytest.mark.parametrize(("values", "mean"), [([2.0, 8.0], 4.0), ([1.0, None], None), ([], None)])
def test_geometric_mean(values: list[float | None], mean: float | None) -> None:
    assert geometric_mean(values) == (None if mean is None else pytest.approx(mean))


def test_a_draft_takes_no_unknown_column() -> None:
    with pytest.raises(ValueError, match="no column for latenzy"):
        Draft(blocks.COLUMNS).add(latenzy=1.0)


def test_partner_devices() -> None:
    partner: Callable[[str], str] = specialisation.partner
    assert [partner(spec) for spec in ("sim:v100", "sim:v100?noise=0", "sim:k80", "cpu")] == [
        "sim:k80", "sim:k80", "sim:v100", "sim:v100",
    ]  # fmt: skip
    assert pruning.COLUMNS[0].key == "network"
