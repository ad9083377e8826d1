"""Latencies, budgets and settings that cannot be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from iosfarm.ir.errors import UsageError
from iosfarm.ir.stage import Stage
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.solver import NoScheduleError, solve
from iosfarm.search.stage_search import StageSearch

from search_costs import problem_of  # isort: skip
from search_graphs import parallel, whole  # isort: skip


@pytest.mark.parametrize("method", ["certified", "exhaustive"])
@pytest.mark.parametrize("seconds", [math.nan, 0.0, -0.0, -1.0, -math.inf, math.inf])
def test_latency_that_cannot_be(seconds: float, method: str) -> None:
    with pytest.raises(ValueError, match=r"a latency of .* for ") as caught:
        solve(whole(parallel([1, 1])), lambda _: seconds, method=method)
    assert ("raise Infeasible" in str(caught.value)) == (seconds == math.inf)


@pytest.mark.parametrize("seconds", [math.nan, 0.0, -1.0, -math.inf])
def test_latency_that_cannot_be_told(seconds: float) -> None:
    search = StageSearch([problem_of(whole(parallel([1, 1])))], Method())
    number = search.ask(1)[0]
    with pytest.raises(ValueError, match="a latency of"):
        search.tell(number, seconds)
    assert np.isnan(search.seconds).all()
    assert search.waiting


@pytest.mark.parametrize("method", ["certified", "exhaustive"])
@pytest.mark.parametrize("error", [ConnectionError("the worker is gone"), KeyboardInterrupt(), ValueError("mine")])
def test_error_of_the_latency_function_passes_untouched(error: BaseException, method: str) -> None:
    calls = 0

    def latency(stage: Stage) -> float:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise error
        return 1.0

    with pytest.raises(type(error)) as caught:
        solve(whole(parallel([2, 2, 1])), latency, method=method)
    assert caught.value is error
    assert calls == 7


@pytest.mark.parametrize("budget", [0, 0.0, Budget(stages=0), Budget(seconds=0, stages=5)])
@pytest.mark.parametrize("method", ["certified", "exhaustive"])
def test_no_budget_no_schedule(budget: Any, method: str) -> None:
    called: list[Stage] = []

    def latency(stage: Stage) -> float:
        called.append(stage)
        return 1.0

    with pytest.raises(NoScheduleError, match="not measured"):
        solve(whole(parallel([1, 1])), latency, budget=budget, method=method)
    assert not called


@pytest.mark.parametrize(
    "setting",
    [
        {"budget": -1},
        {"budget": math.nan},
        {"budget": math.inf},
        {"gap": -0.01},
        {"gap": math.nan},
        {"gap": math.inf},
        {"confidence": 0.0},
        {"confidence": 0.49},
        {"confidence": 1.0},
        {"confidence": 1.5},
        {"confidence": math.nan},
        {"method": "magic"},
        {"method": ""},
        {"certificate": "none"},
        {"endings": "some"},
    ],
)
def test_settings_that_cannot_be(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        solve(whole(parallel([1, 1])), lambda _: 1.0, **setting)
    assert caught.value.hint


@pytest.mark.parametrize("limits", [{"seconds": -1.0}, {"seconds": math.nan}, {"stages": -1}, {"stages": 1.5}])
def test_budgets_that_cannot_be(limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="a budget of"):
        Budget(**limits)
