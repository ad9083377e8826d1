"""Plans between processes: in a file, and told to and by others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.kernels.cuda.providers.plan_cache import FORMAT, VERSION, PlanCache

NO_TIME = json.dumps(
    {"format": FORMAT, "version": VERSION, "scope": PlanScope("x").text, "plans": {"key": ["all one", -1.0]}}
)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "iosfarm-plans"}', '{"plans": {"a": 3}}', NO_TIME])
def test_damaged_plan_files_cost_time_only(tmp_path: Path, text: str) -> None:
    plans = PlanCache(tmp_path, PlanScope("x"))
    plans.put(Plan("key", "all one", 1e-5))
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert PlanCache(tmp_path, PlanScope("x")).get("key") is None
    assert PlanCache(tmp_path, PlanScope("another")).get("key") is None


def test_plan_files_that_take_long_are_written_less_often(tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:  # each look takes 10 ms, and so does a write
        now[0] += 0.01
        return now[0]

    plans = PlanCache(tmp_path, PlanScope("x"), clock)
    known = []
    for number in range(100):
        plans.put(Plan(str(number), "all one", 1e-5))
        known.append(PlanCache(tmp_path, PlanScope("x")).get(str(number)) is not None)
    assert known[0]
    assert 1 < sum(known) < 10
    plans.flush()
    assert all(PlanCache(tmp_path, PlanScope("x")).get(str(number)) for number in range(100))


def test_plan_files_of_two_processes_are_one(tmp_path: Path) -> None:
    one, other = PlanCache(tmp_path, PlanScope("x")), PlanCache(tmp_path, PlanScope("x"))
    one.put(Plan("a", "all one", 1e-5))
    other.put(Plan("b", "all two", 2e-5))
    assert PlanCache(tmp_path, PlanScope("x")).get("a") == Plan("a", "all one", 1e-5)
    assert PlanCache(tmp_path, PlanScope("x")).get("b") == Plan("b", "all two", 2e-5)


def test_plans_that_cannot_be_written_are_still_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plans = PlanCache(tmp_path / "file", PlanScope("x"))
    plans.put(Plan("a", "all one", 1e-5))
    assert plans.get("a") == Plan("a", "all one", 1e-5)


def test_what_others_know_counts_for_more_than_the_file_and_is_not_told_back(tmp_path: Path) -> None:
    before = PlanCache(tmp_path, PlanScope("x"))
    before.put(Plan("a", "of the file", 1e-5))
    before.put(Plan("b", "of the file", 1e-5))
    plans = PlanCache(tmp_path, PlanScope("x"))
    plans.tell([Plan("a", "told", 2e-5)])
    assert plans.get("a") == Plan("a", "told", 2e-5)
    assert plans.take_news() == []


def test_news_are_what_was_found_or_used_once(tmp_path: Path) -> None:
    before = PlanCache(tmp_path, PlanScope("x"))
    before.put(Plan("used", "of the file", 1e-5))
    before.put(Plan("unused", "of the file", 1e-5))
    plans = PlanCache(tmp_path, PlanScope("x"))
    assert plans.get("nothing") is None
    assert plans.get("used") is not None
    plans.put(Plan("found", "new", 1e-5))
    assert {plan.key for plan in plans.take_news()} == {"used", "found"}
    plans.get("used")
    plans.get("found")
    assert plans.take_news() == []
    plans.put(Plan("found", "better", 1e-6))  # it could not be followed any more
    assert plans.take_news() == [Plan("found", "better", 1e-6)]


def test_what_was_told_is_in_the_file_afterwards(tmp_path: Path) -> None:
    plans = PlanCache(tmp_path, PlanScope("x"))
    plans.tell([Plan("a", "told", 2e-5)])
    plans.flush()
    assert PlanCache(tmp_path, PlanScope("x")).get("a") == Plan("a", "told", 2e-5)
