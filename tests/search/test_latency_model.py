"""The regression: its derivatives, what it finds of made-up devices, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.search import latency_model
from iosfarm.search.bounds import Kind, PartBounds
from iosfarm.search.latency_model import LatencyModel, Work

from search_costs import Floats, branches, device, problem_of  # isort: skip - beside this file
from search_graphs import whole  # isort: skip

SECONDS = np.array([2e-5, 3e-5, 4e-5, 6e-5, 8e-5, 1e-4])
LOADS = np.array([0.1, 0.9, 0.3, 0.7, 0.5, 0.2])


def described(seconds: Floats = SECONDS, scale: float = 1.0) -> LatencyModel:
    model = LatencyModel()
    for number, each in enumerate(seconds):
        assert model.type_of(f"unit {number}", scale * each, 1e6 * (number + 1) ** 2, 3e4 * (number + 1), 1) == number
    return model


def random_work(rng: np.random.Generator, stages: int, types: int = len(SECONDS)) -> Work:
    """Stages of two to four groups of one to three units."""
    rows: list[int] = []
    chosen: list[int] = []
    longest, groups, operators = np.zeros(stages), rng.integers(2, 5, stages), np.zeros(stages)
    for row in range(stages):
        for _ in range(groups[row]):
            units = rng.integers(0, types, rng.integers(1, 4))
            rows += [row] * len(units)
            chosen += units.tolist()
            longest[row] = max(longest[row], SECONDS[units].sum())
            operators[row] += len(units)
    at = np.array(chosen, np.int64)
    return Work(longest, groups.astype(np.float64), operators, np.array(rows, np.int64), at, SECONDS[at])


def scaled(work: Work, scale: float) -> Work:
    return Work(scale * work.longest, work.groups, work.operators, work.rows, work.types, scale * work.seconds)


def roofline(work: Work, p: float, overhead: float, fork: float, launch: float) -> Floats:
    """The formula of the module's docstring, with `LOADS`."""
    filled = np.zeros(len(work.longest))
    for row, kind, seconds in zip(work.rows, work.types, work.seconds, strict=True):
        filled[row] += seconds * LOADS[kind]
    powers = work.longest**p + filled**p + (launch * work.operators) ** p
    result: Floats = powers ** (1 / p) + overhead + (work.groups - 1) * fork
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 1.0, 1e3]))
def test_derivatives(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    model = described(scale=scale)
    work = scaled(random_work(rng, 5), scale)
    theta = np.concatenate([rng.normal(0, 1, 6 + 5), rng.normal(0, 1, 4) + np.log([3.0, 0.2, 0.1, 0.1])])
    _, jacobian = model._log_predict(work, theta, jacobian=True)
    assert jacobian.shape == (5, 15)
    for i in range(len(theta)):
        step = np.zeros(len(theta))
        step[i] = 1e-5
        up, down = model._log_predict(work, theta + step)[0], model._log_predict(work, theta - step)[0]
        np.testing.assert_allclose(jacobian[:, i], (up - down) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("p", "overhead", "fork", "launch"), [(2.5, 5e-6, 2e-6, 1e-6), (6.0, 2e-5, 1e-6, 1e-5)])
def test_made_up_parameters_are_found(p: float, overhead: float, fork: float, launch: float) -> None:
    rng = np.random.default_rng(1)
    work, other = random_work(rng, 1000), random_work(rng, 200)
    model = described()
    noise = 0.002
    measured = roofline(work, p, overhead, fork, launch) * np.exp(rng.normal(0, noise, 1000))
    scores = model.fit(work, measured)
    assert model.deviation == pytest.approx(max(0.003, noise), rel=0.3)
    assert np.sqrt(np.mean(scores**2)) == pytest.approx(min(1.0, noise / 0.003), rel=0.3)
    np.testing.assert_allclose(model.loads, LOADS, atol=0.05)
    load = np.bincount(other.rows, other.seconds * model.loads[other.types])
    predicted = model.predict(other.longest, load, other.groups, other.operators)
    np.testing.assert_allclose(predicted, roofline(other, p, overhead, fork, launch), rtol=0.01)


def test_scores_leave_their_stage_out() -> None:
    """Against fitting anew without each stage."""
    rng = np.random.default_rng(2)
    work = random_work(rng, 40)
    measured = roofline(work, 3.0, 5e-6, 2e-6, 1e-6) * np.exp(rng.normal(0, 0.03, 40))
    model = described()
    for _ in range(5):  # further fits start where the last one ended
        scores = model.fit(work, measured)
    for left_out in range(0, 40, 8):
        rest = np.arange(40) != left_out
        kept = rest[work.rows]
        rows = (np.cumsum(rest) - 1)[work.rows[kept]]
        without = Work(
            work.longest[rest], work.groups[rest], work.operators[rest], rows, work.types[kept], work.seconds[kept]
        )
        alone = described()
        for _ in range(5):
            alone.fit(without, measured[rest])
        mine = work.rows == left_out
        load = np.array([(work.seconds * alone.loads[work.types])[mine].sum()])
        one = slice(left_out, left_out + 1)
        error = np.log(measured[one] / alone.predict(work.longest[one], load, work.groups[one], work.operators[one]))
        # A studentised residual is the root of what is and what is left out.
        inside = np.bincount(work.rows, work.seconds * model.loads[work.types])
        fitted = model.predict(work.longest, inside, work.groups, work.operators)[left_out]
        residual = np.log(measured[left_out] / fitted)
        expected = np.sign(residual) * np.sqrt(abs(residual * float(error[0]))) / model.deviation
        assert scores[left_out] == pytest.approx(expected, rel=0.15, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_leverages_equal_the_dense_computation(seed: int) -> None:
    """All stages of a part, against gradient and inverse normal matrix; units of one type and of types not fitted."""
    rng = np.random.default_rng(seed)
    problem = problem_of(whole(branches([2, 2, 1], seed=seed, kinds=int(rng.integers(1, 7)))))
    costs = device(problem, rng, smooth=3.0, fork=2e-6)
    model = described(SECONDS[: rng.integers(0, 4)])
    bounds = PartBounds(problem, model)
    bounds.tell(costs)
    bounds.describe_units()
    concurrent = np.flatnonzero(bounds.kinds == Kind.CONCURRENT)
    some = concurrent[:: int(rng.integers(1, 9))]
    if rng.random() < 0.7:
        model.fit(bounds.work(some, 0.0), costs[problem.classes[some]])
        model.type_of("came later", 1e-5, 1e6, 1e5, 1)
    expected, leverages = bounds.predict(0.0, 0.8)
    work = bounds.work(concurrent, 0.0)
    theta = np.concatenate([model._deviations, model._linear, model._shape])
    log, jacobian = model._log_predict(work, theta, jacobian=True)
    np.testing.assert_allclose(np.exp(log), expected[concurrent], rtol=1e-9)
    dense = np.einsum("ij,jk,ik->i", jacobian, model._covariance(), jacobian)
    np.testing.assert_allclose(leverages[concurrent], dense, rtol=1e-6)
    assert (leverages[concurrent] > 0).all()
    assert (np.delete(leverages, concurrent) == 0).all()


def test_a_type_that_was_never_fitted_is_less_certain() -> None:
    """And is predicted like those that look like it."""
    rng = np.random.default_rng(3)
    model = described()
    work = random_work(rng, 300, types=5)
    model.fit(work, roofline(work, 3.0, 5e-6, 2e-6, 1e-6) * np.exp(rng.normal(0, 0.01, 300)))
    number = model.type_of("new", 5e-5, 9e6, 9e4, 1)
    assert number == len(SECONDS)
    assert model.type_of("new", 1.0, 1.0, 1.0, 1) == number
    assert 0 < model.loads[number] < 1
    covariance = model._covariance()
    assert covariance.shape == (7 + 9, 7 + 9)
    np.testing.assert_allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12)
    logits = np.hstack([np.eye(7), model._design(), np.zeros((7, 4))])
    variances = np.einsum("ij,jk,ik->i", logits, covariance, logits) * model.deviation**2
    assert variances[5:].min() > 10 * variances[:5].max()
    # Of its own it deviates by the prior's 0.7; the linear term adds to that.
    assert 0.49 < variances[6] < 3
    assert variances[5:].min() > 0.49


def test_searches_share_a_model() -> None:
    """What one owner gave stays; what it gives again replaces its own."""
    rng = np.random.default_rng(4)
    one, two = random_work(rng, 60), random_work(rng, 50)
    first, second = (
        roofline(work, 3.0, 5e-6, 2e-6, 1e-6) * np.exp(rng.normal(0, 0.01, len(work.longest))) for work in (one, two)
    )
    together, shared = described(), described()
    for _ in range(8):
        whole_scores = together.fit(Work.concatenate([one, two]), np.concatenate([first, second]))
    for _ in range(8):
        assert len(shared.fit(one, first, owner="one")) == 60
        scores = shared.fit(two, second, owner="two")
    np.testing.assert_allclose(scores, whole_scores[60:], atol=0.05)
    np.testing.assert_allclose(shared.loads, together.loads, atol=0.01)


def test_many_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the fit leaves out get their residuals too; those that it takes hold something of every unit."""
    rng = np.random.default_rng(5)
    work = Work.concatenate([random_work(rng, 150, types=3), random_work(rng, 150)])
    measured = roofline(work, 3.0, 5e-6, 2e-6, 1e-6) * np.exp(rng.normal(0, 0.02, 300))
    every = described().fit(work, measured)
    monkeypatch.setattr(latency_model, "MOST_ROWS", 100)
    some, turned = described(), described()
    scores = some.fit(work, measured)
    assert len(scores) == 300
    assert np.corrcoef(every, scores)[0, 1] > 0.9
    backwards = np.arange(300)[::-1]
    turned.fit(work.take(backwards), measured[backwards])
    np.testing.assert_allclose(some.loads, LOADS, atol=0.1)
    np.testing.assert_allclose(turned.loads, LOADS, atol=0.1)


@pytest.mark.parametrize("scale", [1e3, 1e-6])
def test_unit_of_time_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(6)
    work = random_work(rng, 200)
    measured = roofline(work, 3.0, 5e-6, 2e-6, 1e-6) * np.exp(rng.normal(0, 0.02, 200))
    ours, theirs = described(), described(scale=scale)
    scores, other = ours.fit(work, measured), theirs.fit(scaled(work, scale), scale * measured)
    np.testing.assert_allclose(other, scores, atol=1e-4)
    np.testing.assert_allclose(theirs.loads, ours.loads, atol=1e-5)
    load = np.bincount(work.rows, work.seconds * ours.loads[work.types])
    np.testing.assert_allclose(
        theirs.predict(scale * work.longest, scale * load, work.groups, work.operators),
        scale * ours.predict(work.longest, load, work.groups, work.operators),
        rtol=1e-5,
    )


def test_some_of_many_stages() -> None:
    works = [random_work(np.random.default_rng(seed), 3) for seed in range(3)]
    work = Work.concatenate(works)
    for number, each in enumerate(works):
        taken = work.take(np.arange(3 * number, 3 * number + 3))
        for found, expected in zip(vars(taken).values(), vars(each).values(), strict=True):
            np.testing.assert_array_equal(found, expected)
    turned = work.take(np.array([7, 2]))
    np.testing.assert_array_equal(turned.longest, work.longest[[7, 2]])
    np.testing.assert_array_equal(turned.seconds[turned.rows == 0], work.seconds[work.rows == 7])
    np.testing.assert_array_equal(turned.types[turned.rows == 1], work.types[work.rows == 2])
    assert len(turned.rows) == np.isin(work.rows, [7, 2]).sum()
    assert len(work.take(np.zeros(0, np.int64)).rows) == 0
