"""How many stages make a task: what was learned of an effort, and what to guess of one that is new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iosfarm.farm.dispatch.pace import Pace
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.workers.settings import Effort

POLICY = Policy()


@pytest.mark.parametrize(
    ("simulated", "first"), [(True, POLICY.most_simulated_stages), (False, POLICY.most_stages // 4)]
)
def test_where_nothing_is_known_a_task_is_as_large_as_the_policy_says(simulated: bool, first: int) -> None:
    assert Pace(simulated, POLICY).fitting(Effort.NORMAL, [1.0] * 100) == first


@given(st.floats(1e-3, 10.0), st.booleans(), st.sampled_from(Effort), st.sampled_from(Effort))
def test_of_a_new_effort_no_more_than_another_effort_would_fit(
    seconds: float, simulated: bool, old: Effort, new: Effort
) -> None:
    pace = Pace(simulated, POLICY)
    before = pace.fitting(new, [0.0] * 100)
    pace.learn(old, 1, 0.0, seconds)
    known, guessed = pace.fitting(old, [0.0] * 100), pace.fitting(new, [0.0] * 100)
    assert guessed == (known if new is old else min(known, before))
    chunk = POLICY.simulated_chunk if simulated else POLICY.chunk
    assert known == 1 or known * seconds <= chunk * (1 + 1e-6)


def test_what_is_learned_of_an_effort_replaces_the_guess() -> None:
    pace = Pace(True, POLICY)
    pace.learn(Effort.NORMAL, 1, 0.0, 0.1)
    assert pace.fitting(Effort.CAREFUL, [0.0] * 100) < 12
    pace.learn(Effort.CAREFUL, 1, 0.0, 1e-3)
    assert pace.fitting(Effort.CAREFUL, [0.0] * 100) == POLICY.most_simulated_stages
