"""Tasks for executors, and how to wait for them."""

from __future__ import annotations

from farm_examples import EXHAUSTIVE, branches, job
from processes import eventually

from iosfarm.farm.executors.executor import DeviceInfo, EvaluateTask, Executor, Outcome
from iosfarm.farm.jobs.job_search import JobSearch
from iosfarm.search.baselines import sequential
from iosfarm.search.parts import cut
from iosfarm.workers.evaluating import EvaluationSettings
from iosfarm.zoo.load import load

SIM = "sim:v100?noise=0"


def stages(info: DeviceInfo) -> list[str]:
    """Canonical texts of all stages of a network."""
    requests = JobSearch(job(load("squeezenet"), device=info.spec, method=EXHAUSTIVE), info).next(10**6)
    return [request.stage.canonical for request in requests.values()]


def evaluate_task(rounds: int = 3, layout: str = "nhwc", **changes: object) -> EvaluateTask:
    graph = branches()
    schedule = sequential(graph, cut(graph), layout)
    values = {"graph": graph, "schedules": {"sequential": schedule}, "weights": None, "seed": 0, **changes}
    return EvaluateTask(**values, settings=EvaluationSettings(rounds, max_rounds=rounds, check=False))  # type: ignore[arg-type]


def collect(executor: Executor, spec: str) -> list[Outcome]:
    """Everything that was submitted for a device."""
    outcomes: list[Outcome] = []
    assert eventually(lambda: bool(outcomes.extend(executor.wait(1.0))) or not executor.pending(spec), 120)
    return outcomes
