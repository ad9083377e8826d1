"""Devices, environments, measurements and errors: small values that travel and are stored."""

from __future__ import annotations

import pickle
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iosfarm.ir.device import Device, Environment, canonical_json
from iosfarm.ir.errors import GraphError, Infeasible, IosfarmError, UsageError
from iosfarm.ir.measurement import Measurement, Status, percentile

# -- device and environment ------------------------------------------------------------------------------------------


def test_device_key_is_what_databases_have() -> None:
    device = Device("cpu", "Some CPU", {"cores": 2, "avx512": True}, {"host": "a"})
    assert device.key == "cbfa60be0d119cf9edd09ca760da3410db0ca3fbecc673675962c131ddffbb7c"


def test_device_key_leaves_out_the_instance_only() -> None:
    base = Device("cpu", "Some CPU", {"cores": 2, "avx512": True}, {"host": "a"})
    assert base.key == Device("cpu", "Some CPU", {"avx512": True, "cores": 2}, {"host": "b"}).key
    others = [
        Device("cuda", "Some CPU", {"cores": 2, "avx512": True}),
        Device("cpu", "Other CPU", {"cores": 2, "avx512": True}),
        Device("cpu", "Some CPU", {"cores": 4, "avx512": True}),
        Device("cpu", "Some CPU", {"cores": 2, "avx512": False}),
        Device("cpu", "Some CPU", {"cores": 2}),
        Device("cpu", "Some CPU", {"cores": "2", "avx512": True}),
    ]
    assert len({device.key for device in (base, *others)}) == len(others) + 1


def test_simulated_devices_say_so() -> None:
    assert Device("sim:v100", "sim:v100 Tesla").simulated
    assert not Device("cuda", "simulator").simulated


def test_environment_keys() -> None:
    base = Environment({"runtime": "cpu", "torch": "2.11"}, {"driver": "1"})
    assert base.hard_key == Environment({"torch": "2.11", "runtime": "cpu"}, {"driver": "2"}).hard_key
    assert base.key != Environment({"torch": "2.11", "runtime": "cpu"}, {"driver": "2"}).key
    assert base.key == Environment({"torch": "2.11", "runtime": "cpu"}, {"driver": "1"}).key
    assert base.hard_key != Environment({"runtime": "cpu", "torch": "2.12"}).hard_key
    # The same fields, hard in one and soft in the other, are another environment.
    assert Environment({"a": 1}, {"b": 2}).key != Environment({"a": 1, "b": 2}).key


def test_soft_differences() -> None:
    ours = Environment({}, {"driver": "535", "cuda": "12.1", "host_os": "x"})
    theirs = Environment({}, {"driver": "550", "cuda": "12.1", "turbo": False})
    assert ours.soft_differences(theirs) == {"driver": ("535", "550"), "host_os": ("x", None), "turbo": (None, False)}
    assert ours.soft_differences(ours) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_has_not(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": value})


def test_canonical_json_is_ascii_without_spaces() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "µ"}) == '{"a":"\\u00b5","b":[1,2.5,null]}'


# -- measurement -----------------------------------------------------------------------------------------------------

SAMPLES = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=30)


@given(SAMPLES)
def test_statistics(samples: list[float]) -> None:
    measurement = Measurement("k", Status.OK, tuple(samples))
    assert measurement.median == statistics.median(samples)
    assert measurement.minimum == min(samples) <= measurement.median <= max(samples)
    assert measurement.mad == statistics.median([abs(s - measurement.median) for s in samples])
    assert measurement.minimum <= measurement.p90 <= max(samples)


@given(SAMPLES, st.floats(0, 1), st.floats(0, 1))
def test_percentile_is_monotone_and_between(samples: list[float], low: float, high: float) -> None:
    low, high = sorted((low, high))
    tolerance = 1e-12 * max(samples)
    assert percentile(samples, 0) == min(samples)
    assert percentile(samples, 1) == max(samples)
    assert percentile(samples, low) <= percentile(samples, high) + tolerance


def test_percentile_interpolates() -> None:
    assert percentile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
    assert percentile([0.0, 10.0], 0.9) == 9.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize("sample", [0.0, -1.0, float("nan"), float("inf")])
def test_samples_have_to_be_times(sample: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        Measurement("k", Status.OK, (1.0, sample))


def test_an_ok_measurement_needs_samples() -> None:
    with pytest.raises(ValueError, match="needs samples"):
        Measurement("k", Status.OK)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_any_other_measurement_needs_a_reason(status: Status) -> None:
    with pytest.raises(ValueError, match=f"{status} needs a reason"):
        Measurement("k", status)
    measurement = Measurement("k", status, reason="too large")
    assert not measurement.ok
    assert pickle.loads(pickle.dumps(measurement)) == measurement


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [IosfarmError, UsageError, GraphError, Infeasible])
def test_errors_travel_between_processes(kind: type[IosfarmError]) -> None:
    error = kind("unknown operator", where="net: operator 3", hint="use relu")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.what, again.where, again.hint) == (error.what, error.where, error.hint)
    assert str(again) == str(error) == "net: operator 3: unknown operator; use relu"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UsageError("what"), "what"),
        (UsageError("what", where="here"), "here: what"),
        (UsageError("what", hint="do this"), "what; do this"),
        (UsageError("two\nlines\n\tand  spaces", where="a\nb"), "a b: two lines and spaces"),
    ],
)
def test_an_error_is_one_line(error: IosfarmError, line: str) -> None:
    assert str(error) == line


def test_exit_codes() -> None:
    assert (IosfarmError("a").exit_code, Infeasible("a").exit_code) == (1, 1)
    assert (UsageError("a").exit_code, GraphError("a").exit_code) == (2, 2)
