"""The measuring protocol's rules, on a scripted device with a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import Infeasible
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.stage import Stage
from iosfarm.kernels.sim.runtime import SimRuntime
from iosfarm.workers.measuring import measure, reference_stage, relative_median_error
from iosfarm.workers.settings import EFFORTS, Effort, MeasureSettings

Script = Iterable[float | BaseException]
REFERENCE = reference_stage("nhwc").key


def stage(channels: int) -> Stage:
    b = GraphBuilder("one")
    return canonical_stage(b.build(b.conv2d(b.input((3, 8, 8)), channels, 3)), [[0]]).stage


class Device:
    """Answers from scripts: stage key -> seconds of each execution. Its clock stands still between executions."""

    layout = "nhwc"

    def __init__(self, scripts: dict[str, Script], reference: Script = ()) -> None:
        self.scripts = {REFERENCE: reference, **scripts}
        self.now = 0.0
        self.open = 0
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def prepare(self, stage: Stage) -> Any:
        script = self.scripts[stage.key]
        if isinstance(script, Exception):
            raise script
        self.open += 1
        return Scripted(self, stage.key, iter(script))


class Scripted:
    def __init__(self, device: Device, key: str, script: Iterator[float | BaseException]) -> None:
        self.device, self.key, self.script, self.last = device, key, script, 1e-3
        self.closed = False

    def time(self, repeats: int) -> list[float]:
        assert not self.closed
        self.device.log.append(self.key)
        samples = []
        for _ in range(repeats):
            value = next(self.script, self.last)
            if isinstance(value, BaseException):
                raise value
            self.last = value
            self.device.now += value
            samples.append(value)
        return samples

    def close(self) -> None:
        self.device.open -= not self.closed
        self.closed = True

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


SETTINGS = MeasureSettings(warmup=1, min_sample=1e-4, min_samples=3, max_samples=8, precision=0.02, timeout=5.0)


def run(device: Device, *stages: Stage, settings: MeasureSettings = SETTINGS) -> list[Measurement]:
    result = list(measure(device, stages, settings, clock=device.clock, conditions=dict))  # type: ignore[arg-type]
    assert device.open == 0
    return result


def test_steady_stage_stops_at_the_fewest_samples() -> None:
    (m,) = run(Device({stage(1).key: [2e-3]}), stage(1))
    assert m.status is Status.OK
    assert m.samples == (2e-3,) * 3
    assert m.stage_key == stage(1).key
    assert m.rounds == 3


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.5])
def test_more_effort_takes_more_samples(noise: float) -> None:
    taken = []
    for effort in (Effort.QUICK, Effort.NORMAL, Effort.CAREFUL):
        settings = EFFORTS[effort]
        samples = [1e-3, *(1e-3, 1e-3 * (1 + noise), 1e-3 * (1 - noise)) * 20]
        (m,) = run(Device({stage(1).key: samples}), stage(1), settings=settings)
        assert settings.min_samples <= len(m.samples) <= settings.max_samples
        taken.append(len(m.samples))
    assert taken[0] < taken[1] < taken[2]


def test_noisy_stage_goes_on_to_the_most() -> None:
    (m,) = run(Device({stage(1).key: [1e-3, *(1e-3, 2e-3, 3e-3) * 5]}), stage(1))
    assert m.ok
    assert len(m.samples) == 8


def test_stage_stops_as_soon_as_its_median_is_known() -> None:
    values = [1e-3, 1.2e-3, 0.8e-3, 1e-3, 1e-3, 1e-3, 1e-3]
    (m,) = run(Device({stage(1).key: [1e-3, *values]}), stage(1))
    known = next(n for n in range(3, 9) if relative_median_error(values[:n]) <= 0.02)
    assert 3 < known < 8
    assert m.samples == tuple(values[:known])


def test_median_error_is_that_of_the_formula() -> None:
    # MAD 1, median 10, n 4: 1.2533 * 1.4826 * 1 / 2 / 10
    assert relative_median_error([9, 9, 11, 11]) == pytest.approx(1.2533 * 1.4826 / 20)


@pytest.mark.parametrize(("duration", "unroll"), [(1e-3, 1), (1e-4, 1), (0.9e-4, 2), (3e-5, 4), (1e-6, 8)])
def test_short_stages_are_unrolled(duration: float, unroll: int) -> None:
    (m,) = run(Device({stage(1).key: [duration]}), stage(1))
    assert m.unroll == unroll
    assert m.samples == pytest.approx((duration,) * 3)


def test_rounds_are_interleaved_and_end_with_the_reference() -> None:
    device = Device({stage(1).key: [1e-3], stage(2).key: [1e-3]})
    run(device, stage(1), stage(2))
    rounds = device.log[-9:]
    assert rounds == [stage(1).key, stage(2).key, REFERENCE] * 3


def test_more_stages_than_a_chunk_keep_their_order() -> None:
    stages = [stage(n) for n in range(1, 8)]
    device = Device({s.key: [n * 1e-3] for n, s in enumerate(stages, 1)})
    settings = MeasureSettings(warmup=1, min_samples=3, max_samples=3, chunk=3)
    assert [m.median for m in run(device, *stages, settings=settings)] == [n * 1e-3 for n in range(1, 8)]


def test_round_with_a_drifting_reference_is_taken_again() -> None:
    # The reference: five samples of five to learn its time, then one of five in each round; the first is 10% off.
    reference = [1e-3] * 25 + [1.1e-3] * 5 + [1e-3]
    (m,) = run(Device({stage(1).key: [2e-3, 9e-3, 2e-3]}, reference), stage(1))
    assert 9e-3 not in m.samples
    assert m.conditions["drifted"] is False


def test_drift_that_stays_is_accepted_and_flagged() -> None:
    settings = MeasureSettings(warmup=1, min_samples=3, max_samples=3, retakes=2)
    device = Device({stage(1).key: [2e-3]}, [1e-3] * 25 + [1.1e-3] * 15 + [1e-3])
    (m,) = run(device, stage(1), settings=settings)
    assert m.ok
    assert m.conditions["drifted"] is True
    assert m.conditions["drift"] == pytest.approx(0.1)
    # warm-up, three samples, and two rounds thrown away
    assert device.log.count(stage(1).key) == 1 + 3 + 2


def test_reference_that_is_always_noisy_does_not_void_every_round() -> None:
    noisy = [value for value in (1e-3, 1.1e-3, 0.9e-3, 1.05e-3, 0.95e-3) * 4 for _ in range(5)]
    device = Device({stage(1).key: [2e-3]}, noisy)
    (m,) = run(device, stage(1))
    assert m.conditions["drifted"] is False
    assert device.log.count(stage(1).key) == 1 + 3


def failing(make: Callable[[], Script]) -> Measurement:
    bad, good = stage(1), stage(2)
    device = Device({bad.key: make(), good.key: [1e-3]})
    first, second = run(device, bad, good)
    assert first.stage_key == bad.key
    assert second.ok
    assert len(second.samples) == 3
    return first


def test_infeasible_stage_is_a_property_of_the_stage() -> None:
    m = failing(lambda: Infeasible("too large for this device"))  # type: ignore[arg-type, return-value]
    assert (m.status, m.reason) == (Status.INFEASIBLE, "too large for this device")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: RuntimeError("no\nluck"), id="preparing"),
        pytest.param(lambda: [RuntimeError("no\nluck")], id="warming-up"),
        pytest.param(lambda: [1e-3, 1e-3, RuntimeError("no\nluck")], id="sampling"),
    ],
)
def test_exception_is_a_failure_and_the_others_go_on(make: Callable[[], Script]) -> None:
    m = failing(make)
    assert m.status is Status.FAILED
    assert m.samples == ()
    assert m.reason == "RuntimeError: no luck"


def test_slow_stage_times_out() -> None:
    m = failing(lambda: [3.0])
    assert m.status is Status.TIMEOUT
    assert "samples in" in m.reason


def test_timeout_with_enough_samples_keeps_them() -> None:
    (m,) = run(Device({stage(1).key: [1.0, *(1.0, 2.0) * 10]}), stage(1))
    assert m.ok
    assert 3 <= len(m.samples) < 8


def test_closing_the_iterator_early_gives_everything_back() -> None:
    stages = [stage(n) for n in range(1, 5)]
    device = Device({s.key: [1e-3] for s in stages})
    settings = MeasureSettings(chunk=2)
    results = measure(device, stages, settings, clock=device.clock, conditions=dict)  # type: ignore[arg-type]
    assert next(results).ok
    results.close()  # type: ignore[attr-defined]
    assert device.open == 0


def test_interrupt_is_not_a_failure_and_gives_everything_back() -> None:
    device = Device({stage(1).key: [1e-3], stage(2).key: [1e-3, 1e-3, KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        run(device, stage(1), stage(2))
    assert device.open == 0


def test_conditions_are_those_that_are_worse() -> None:
    told = iter([{"load": 0.5, "frequency": 3e9, "throttled": 7}, {"load": 0.25, "frequency": 2e9, "throttled": 9}])
    device = Device({stage(1).key: [1e-3]})
    (m,) = measure(device, [stage(1)], SETTINGS, clock=device.clock, conditions=lambda: next(told))  # type: ignore[arg-type]
    assert (m.conditions["load"], m.conditions["frequency"], m.conditions["throttled"]) == (0.5, 2e9, 2)


@pytest.mark.parametrize(
    "wrong",
    [{"min_samples": 2}, {"min_samples": 9, "max_samples": 8}, {"warmup": 0}, {"retakes": -1}, {"timeout": 0.0}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|need"):
        MeasureSettings(**wrong)


def test_what_a_device_measured_while_it_was_not_itself_does_not_count() -> None:
    states = iter([{"clock_reasons": 1, "temperature": 40}, {"clock_reasons": 8, "void": "slowed down"}])
    with closing(SimRuntime("v100", noise=0)) as runtime:
        (measurement,) = measure(runtime, [reference_stage("nhwc")], conditions=lambda: next(states))
    assert (measurement.status, measurement.reason) == (Status.FAILED, "slowed down")
    assert measurement.conditions["clock_reasons"] == 9
