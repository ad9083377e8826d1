"""Conformal quantiles, the sample that they need, and the audit."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iosfarm.search.calibration import REFUTED, Audit, conformal_quantile, sample_size

confidences = st.sampled_from(["0.5", "0.6", "0.75", "0.8", "0.9", "0.95", "0.98", "0.99", "0.995", "0.999"])


@given(st.lists(st.floats(-5, 5), max_size=250), confidences)
def test_quantile_is_the_least_score_that_covers(scores: list[float], confidence: str) -> None:
    """Of n + 1 exchangeable scores the last is in each place with equal probability: counted, not by formula."""
    exact = Fraction(confidence)
    found = conformal_quantile(scores, float(confidence))
    covering = [s for s in scores if Fraction(sum(x <= s for x in scores), len(scores) + 1) >= exact]
    assert found == min(covering, default=math.inf)


@given(confidences)
def test_sample_size_is_the_least_with_a_finite_quantile(confidence: str) -> None:
    size = sample_size(float(confidence))
    assert math.isfinite(conformal_quantile(range(size), float(confidence)))
    assert math.isinf(conformal_quantile(range(size - 1), float(confidence)))


def test_sample_sizes() -> None:
    assert [sample_size(c) for c in (0.5, 0.9, 0.95, 0.99, 0.999)] == [1, 9, 19, 99, 999]
    assert conformal_quantile([], 0.99) == math.inf


@pytest.mark.parametrize(("confidence", "count"), [(0.9, 20), (0.9, 9), (0.8, 57), (0.5, 3)])
def test_coverage(confidence: float, count: int) -> None:
    """At least the confidence, and no more than one score's weight above it."""
    draws = np.random.default_rng(count).lognormal(size=(20_000, count + 1))
    covered = np.mean([row[-1] <= conformal_quantile(row[:-1], confidence) for row in draws])
    noise = 4 * math.sqrt(confidence * (1 - confidence) / len(draws))
    assert confidence - noise <= covered <= confidence + 1 / (count + 1) + noise


def upper_tail(broken: int, audited: int, probability: Fraction) -> Fraction:
    return sum(
        (
            math.comb(audited, k) * probability**k * (1 - probability) ** (audited - k)
            for k in range(broken, audited + 1)
        ),
        Fraction(0),
    )


@given(confidences, st.integers(0, 400), st.integers(0, 40))
def test_refuted_equals_the_exact_binomial(confidence: str, audited: int, broken: int) -> None:
    broken = min(broken, audited)
    audit = Audit()
    for number in range(audited):
        audit.add(held=number >= broken)
    assert (audit.audited, audit.broken) == (audited, broken)
    expected = broken > 1 and upper_tail(broken, audited, 1 - Fraction(confidence)) < Fraction(REFUTED)
    assert audit.refuted(float(confidence)) == expected


def test_refuted_begins_where_chance_ends() -> None:
    """The least number of broken bounds of 100 that is not taken for chance."""
    for confidence in ("0.9", "0.99"):
        tails = [upper_tail(k, 100, 1 - Fraction(confidence)) for k in range(101)]
        least = next(k for k in range(2, 101) if tails[k] < REFUTED)
        assert not Audit(100, least - 1).refuted(float(confidence))
        assert Audit(100, least).refuted(float(confidence))


def test_one_broken_bound_refutes_nothing() -> None:
    assert not Audit(1, 1).refuted(0.9999)
    assert Audit(2, 2).refuted(0.99)
