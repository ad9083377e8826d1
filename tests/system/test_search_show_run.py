"""What the README shows: search, show and run, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command_line import Iosfarm

from iosfarm.db import LatencyDatabase

SMALL = "models:\n  - name: sample\n    arguments: {channels: 16, image_size: 8}\n"
SIM = ("--device", "sim:v100", "--executor", "inline")


def test_search_on_a_simulated_device_and_again(iosfarm: Iosfarm) -> None:
    zoo = iosfarm.zoo("models:\n  - name: squeezenet\n  - name: sample\n    batch_sizes: [1, 8]\n")
    first = iosfarm("search", "--models", zoo, *SIM, "--json")
    assert first.code == 0, first.err
    assert not first.document["interrupted"]
    results = first.document["results"]
    assert [(r["model"], r["batch"]) for r in results] == [("squeezenet", 1), ("sample", 1), ("sample", 8)]
    for result in results:
        assert result["device"]["simulated"]
        assert 0 < result["counts"]["measured"] < result["counts"]["stages"]
        assert result["certificate"]["gap"] <= result["settings"]["gap"] == 0.01
        assert 0 <= result["regret"] < 0.01
        assert result["speedup"] >= 1
        assert (iosfarm.folder / result["file"]).is_file()
    assert iosfarm.distinct() == sum(r["counts"]["measured"] for r in results)

    recorded = iosfarm.recorded()
    again = iosfarm("search", "--models", zoo, *SIM, "--json")
    assert again.code == 0
    for before, after in zip(results, again.document["results"], strict=True):
        # What the refinement tried in vain is not tried again.
        counts = after["counts"]
        assert (counts["measured"], counts["checked"], counts["rounds"]) == (0, 0, 0)
        assert 0 < counts["found"] <= before["counts"]["measured"]
        assert after["certificate"]["gap"] <= 0.01
        assert after["chosen"] == before["chosen"]
        assert after["latencies"]["optimised"]["predicted"] == before["latencies"]["optimised"]["predicted"]
    assert iosfarm.recorded() == recorded


def test_the_table_marks_what_is_simulated(iosfarm: Iosfarm) -> None:
    done = iosfarm("search", "--models", iosfarm.zoo(), *SIM)
    assert done.code == 0
    (row,) = (line for line in done.out.splitlines() if line.strip().startswith("sample"))
    assert "sim:v100 (simulated)" in row
    assert "wrote schedules/sample-sim-v100-b1-float32.json" in done.out


def test_search_on_the_cpu_end_to_end(iosfarm: Iosfarm) -> None:
    done = iosfarm("search", "--models", iosfarm.zoo(SMALL), "--executor", "inline", "--json", "--out", "out/cpu")
    assert done.code == 0, done.err
    (result,) = done.document["results"]
    assert result["device"]["kind"] == "cpu"
    assert not result["device"]["simulated"]
    assert result["counts"]["measured"] == iosfarm.distinct() <= result["counts"]["stages"]
    assert result["certificate"]["gap"] < 0.5  # on a busy machine noise leaves more than was asked for
    assert result["regret"] < 0.1
    for name in ("sequential", "greedy", "optimised"):
        latency = result["latencies"][name]
        assert latency["relative_error"] <= 1e-4
        assert latency["measured"] > 0
        assert latency["predicted"] > 0
        assert len(latency["samples"]) >= 10
    with LatencyDatabase(str(iosfarm.database), readonly=True) as database:
        assert all(row.n >= 3 and not row.simulated for row in database.query())
        (row,) = database.schedules()
        assert row.measured == result["latencies"][result["chosen"]]["measured"]

    file = result["file"]
    ran = iosfarm("run", file, "--json", "--rounds", "5")
    assert ran.code == 0, ran.err
    assert ran.document["numbers_are_right"]
    rows = {row["name"]: row for row in ran.document["rows"]}
    assert rows.keys() >= {"sequential", "greedy", result["chosen"]}
    assert rows[result["chosen"]]["predicted"] == result["latencies"][result["chosen"]]["predicted"]
    assert all(row["error"] <= 1e-4 for row in rows.values())
    text = iosfarm("run", file, "--rounds", "2", "--no-check", "--seed", "3")
    assert text.code == 0
    assert "not checked" in text.out
    elsewhere = iosfarm("run", file, "--device", "sim:k80", "--json", "--rounds", "2")
    assert elsewhere.code == 0
    assert elsewhere.document["simulated"]
    assert any("predictions are left out" in note for note in elsewhere.document["notes"])
    assert all(row["predicted"] is None for row in elsewhere.document["rows"])


def test_search_with_ray(iosfarm: Iosfarm) -> None:
    # More devices than this machine may have cores; equal ones do the same job together.
    zoo = iosfarm.zoo(SMALL + "    devices: [cpu, 'sim:v100?count=2', 'sim:k80', 'sim:h200']\n")
    done = iosfarm("search", "--models", zoo, "--json", "--executor", "ray")
    assert done.code == 0, done.err
    results = done.document["results"]
    assert [r["device"]["kind"] for r in results] == ["cpu", "sim:v100", "sim:k80", "sim:h200"]
    assert all(r["counts"]["failed"] == 0 for r in results)
    assert results[0]["latencies"]["optimised"]["relative_error"] <= 1e-4
    again = iosfarm("search", "--models", zoo, "--json", "--executor", "inline")
    assert [r["counts"]["measured"] for r in again.document["results"]] == [0] * 4


def test_one_model_that_cannot_run_does_not_stop_the_others(iosfarm: Iosfarm) -> None:
    zoo = iosfarm.zoo("models:\n  - name: sample\n    dtypes: [bfloat16, float32]\n")
    done = iosfarm("search", "--models", zoo, *SIM, "--json")
    assert done.code == 1
    assert "cannot run on this device" in done.error
    assert [r["dtype"] for r in done.document["results"]] == ["float32"]
    assert (iosfarm.folder / "schedules" / "sample-sim-v100-b1-float32.json").is_file()


# -- show ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schedule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schedule file of SqueezeNet on a simulated device."""
    command = Iosfarm(tmp_path_factory.mktemp("shown"))
    zoo = command.zoo("models:\n  - name: squeezenet\n")
    (result,) = command("search", "--models", zoo, *SIM, "--json").document["results"]
    return command.folder / str(result["file"])


def test_show_as_text(iosfarm: Iosfarm, schedule: Path) -> None:
    done = iosfarm("show", str(schedule))
    assert done.code == 0
    assert done.err == ""
    content = json.loads(schedule.read_text())
    assert done.out.startswith("squeezenet, batch 1, float32 on ")
    assert "simulated" in done.out
    for stage in content["stages"]:
        for name in (name for group in stage["groups"] for name in group):
            assert f"{name} (" in done.out
    assert done.out.count("merged into one") == sum(s["strategy"] == "merge" for s in content["stages"])


def test_show_one_part(iosfarm: Iosfarm, schedule: Path) -> None:
    done = iosfarm("show", str(schedule), "--part", "1", "--json")
    assert {stage["part"] for stage in done.document["stages"]} == {1}
    unknown = iosfarm("show", str(schedule), "--part", "99")
    assert unknown.code == 2
    assert "there is no part 99; parts are 0 to" in unknown.error


def test_show_as_a_picture(iosfarm: Iosfarm, schedule: Path) -> None:
    done = iosfarm("show", str(schedule), "--svg", "picture.svg", "--json")
    assert done.code == 0
    stages = json.loads(schedule.read_text())["stages"]
    assert done.document["stages"] == stages
    root = ElementTree.parse(iosfarm.folder / "picture.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    boxes = root.findall(".//{http://www.w3.org/2000/svg}g")
    assert len(boxes) == sum(len(group) for stage in stages for group in stage["groups"])


def test_show_where_the_picture_cannot_be_written(iosfarm: Iosfarm, schedule: Path) -> None:
    done = iosfarm("show", str(schedule), "--svg", "missing/picture.svg")
    assert done.code == 1
    assert done.error == "missing/picture.svg: cannot write the picture: No such file or directory"


def test_groups_that_a_user_reordered_are_shown_with_their_own_names(iosfarm: Iosfarm, schedule: Path) -> None:
    content = json.loads(schedule.read_text())
    for stage in content["stages"]:
        stage["groups"].reverse()
    (iosfarm.folder / "edited.json").write_text(json.dumps(content))
    assert iosfarm("show", "edited.json").out == iosfarm("show", str(schedule)).out
