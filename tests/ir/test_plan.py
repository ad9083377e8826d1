"""Plans: what is none is refused, and keys always fit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iosfarm.ir.plan import LONGEST_KEY, Plan, PlanScope, plan_key


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Plan("key", "name", seconds)


@pytest.mark.parametrize(
    ("key", "name"), [("", "name"), ("key", ""), ("k\0", "name"), ("key", "\0"), ("x" * (LONGEST_KEY + 1), "name")]
)
def test_no_plan(key: str, name: str) -> None:
    with pytest.raises(ValueError, match="plan with"):
        Plan(key, name, 1.0)


@given(st.lists(st.text(max_size=9), max_size=400), st.lists(st.text(max_size=9), max_size=400))
def test_keys_fit_and_are_equal_for_what_is_equal(one: list[str], other: list[str]) -> None:
    assert (plan_key(one) == plan_key(other)) == (one == other)
    assert Plan(plan_key(one), "name", 1.0).key == plan_key(list(one))


def test_scopes_are_the_same_whatever_the_order_of_their_facts() -> None:
    one, other = PlanScope("x", {"a": 1, "b": 2}), PlanScope("x", {"b": 2, "a": 1})
    assert one.key == other.key != PlanScope("x", {"a": 1}).key != PlanScope("y", {"a": 1}).key
