"""A worker on the CPU: real measurements."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import closing

import pytest

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.device import Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.measurement import Status
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.workers.evaluating import EvaluationSettings, tolerance
from iosfarm.workers.settings import MeasureSettings
from iosfarm.workers.worker import Worker

QUICK = MeasureSettings(warmup=1, min_samples=3, max_samples=3)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with closing(Worker("cpu")) as worker:
        yield worker


def graph() -> Graph:
    b = GraphBuilder("pair")
    x = b.input((16, 12, 12))
    left, right = b.conv2d(x, 16, 3, padding=1), b.conv2d(x, 8, 1)
    return b.build(b.concat(left, right))


def stages() -> list[str]:
    g = graph()
    made = [canonical_stage(g, groups, s).stage for groups, s in (
        ([[0]], "concurrent"), ([[0], [1]], "concurrent"), ([[0], [1]], "merge"),
    )]  # fmt: skip
    return [stage.canonical for stage in made]


def huge() -> str:
    b = GraphBuilder("huge")
    g = b.build(b.relu(b.input((8, 1024, 1024)))).bind(batch=65536)
    return canonical_stage(g, [[0]]).stage.canonical


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_stages_are_measured(worker: Worker) -> None:
    texts = stages()
    measured = worker.measure(texts, QUICK)
    assert [m.stage_key for m in measured] == [key(text) for text in texts]
    for m in measured:
        assert m.status is Status.OK
        assert len(m.samples) == 3
        assert m.worker == worker.name
        assert {"drift", "drifted"} <= set(m.conditions)


def test_what_cannot_be_measured_does_not_stop_the_rest(worker: Worker) -> None:
    texts = [huge(), "{}", stages()[0]]
    infeasible, unreadable, good = worker.measure(texts, QUICK)
    assert infeasible.status is Status.INFEASIBLE
    assert "GiB" in infeasible.reason
    assert unreadable.status is Status.FAILED
    assert [m.stage_key for m in (infeasible, unreadable, good)] == [key(text) for text in texts]
    assert good.ok


def test_nothing_to_measure(worker: Worker) -> None:
    assert worker.measure([]) == []


def test_one_thing_at_a_time(worker: Worker) -> None:
    first = worker.measure_each(stages(), QUICK)
    next(first)
    with pytest.raises(RuntimeError, match="busy"):
        worker.measure(stages(), QUICK)
    first.close()  # type: ignore[attr-defined]
    assert len(worker.measure(stages()[:1], QUICK)) == 1


def test_schedules_are_evaluated_with_weights_of_its_own(worker: Worker) -> None:
    g = graph()
    names = [unit.name for unit in g.units]
    schedule = Schedule(tuple(ScheduledStage(0, "concurrent", ((name,),)) for name in names))
    evaluation = worker.evaluate(
        g, {"sequential": schedule}, None, 3, EvaluationSettings(rounds=2, max_rounds=2, warmup=1)
    )
    error = evaluation.errors["sequential"]
    assert error is not None
    assert error <= 1e-4
    assert len(evaluation.latencies["sequential"].samples) == 2


def test_it_says_what_it_is(worker: Worker) -> None:
    device, environment = worker.fingerprint()
    assert device.kind == "cpu"
    assert environment.hard["provider"] in ("onednn", "torch")
    assert worker.layout == "nhwc"


def test_it_cannot_be_pickled(worker: Worker) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(worker)


def test_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown device"):
        Worker("abacus")


def test_closed_worker_can_be_closed_again() -> None:
    worker = Worker("cpu")
    worker.close()
    worker.close()


def test_tf32_is_judged_as_what_it_keeps() -> None:
    exact, rounded = (Environment({"precision": name}) for name in ("ieee", "tf32"))
    assert tolerance("float32", exact) == tolerance("float32", Environment({})) < tolerance("float32", rounded)
    assert tolerance("float16", exact) == tolerance("float16", rounded) == tolerance("float32", rounded)
