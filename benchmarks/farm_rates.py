"""What a driver keeps up with, see `farm.py`."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import deque
from pathlib import Path

from iosfarm.db import LatencyDatabase
from iosfarm.farm.driver import Driver
from iosfarm.farm.events import Event
from iosfarm.farm.executors.executor import Change, DeviceInfo, EvaluateTask, Executor, MeasureTask, Outcome, Task
from iosfarm.farm.executors.ray_executor import RayExecutor
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.reproduce.tables import paper_network
from iosfarm.search.method import Method
from iosfarm.workers.failures import Failure
from iosfarm.workers.worker import Worker

EXHAUSTIVE = SearchSettings(method=Method("exhaustive"), refine=False)


class Instant:
    """Devices that answer at once, with samples that are made up."""

    def __init__(self, count: int) -> None:
        worker = Worker("sim:v100")
        device, environment = worker.fingerprint()
        self._infos = [DeviceInfo("sim:v100", device, environment, worker.layout, f"instant#{n}") for n in range(count)]
        self._pending = {info.name: 0 for info in self._infos}
        self._done: deque[Outcome] = deque()
        self._submitted = self._submitted_stages = 0
        self.stages = 0
        self.first = self.last = (0.0, 0.0)  # wall and processor time

    def open(self, selector: str) -> list[DeviceInfo]:
        return self._infos

    def submit(self, device: str, task: Task) -> int:
        self._submitted += 1
        self._pending[device] += 1
        if isinstance(task, EvaluateTask):
            self._done.append(Outcome(self._submitted, device, error="not measured", failure=Failure.RAISED))
            return self._submitted
        assert isinstance(task, MeasureTask)
        if not self._submitted_stages:
            self.first = time.perf_counter(), time.process_time()
        self._submitted_stages += len(task.stages)
        # The gate compares canaries: all devices say the same of them.
        samples = (1e-3, 1.001e-3, 1.002e-3, 1.001e-3, 1e-3)
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in task.stages]
        measured = [Measurement(key, Status.OK, samples, worker=device, conditions={"reference": 1e-4}) for key in keys]
        self._done.append(Outcome(self._submitted, device, measured, seconds=1e-3))
        return self._submitted

    def pending(self, device: str) -> int:
        return self._pending[device]

    def wait(self, timeout: float) -> list[Outcome]:
        done, self._done = list(self._done), deque()
        for outcome in done:
            self._pending[outcome.device] -= 1
            self.stages += len(outcome.measurements)
        if any(outcome.measurements for outcome in done):
            self.last = time.perf_counter(), time.process_time()
        return done

    def changes(self) -> list[Change]:
        return []

    def restart(self, device: str, failure: Failure, reason: str) -> None: ...

    def drop(self, device: str) -> None: ...

    def drain(self, timeout: float) -> list[Outcome]:
        return []

    def close(self) -> None: ...


def throughput(folder: Path, _: argparse.Namespace) -> dict[str, object]:
    """Stages a second between the first task and the last answer, the driver's work on that included."""
    rates, processor = [], []
    for run in range(3):
        executor = Instant(16)
        jobs = [Job("nasnet", paper_network("nasnet_large", None), "sim:v100", EXHAUSTIVE)]
        with LatencyDatabase(str(folder / f"{run}.db")) as database:
            Driver(jobs, database, executor).run()
        wall, cpu = (last - first for first, last in zip(executor.first, executor.last, strict=True))
        rates.append(executor.stages / wall)
        processor.append(executor.stages / cpu)
    return {
        "stages": executor.stages,
        "stages/s, median of 3": sorted(rates)[1],
        "least, most": f"{min(rates):.0f}, {max(rates):.0f}",
        "stages each processor second, median": sorted(processor)[1],
    }


def busy(folder: Path, _: argparse.Namespace) -> dict[str, object]:
    """The share of time, from when all devices have begun."""
    graph = paper_network("nasnet_large", None)
    jobs = [Job("nasnet", graph.bind(batch=batch), "sim:v100?count=64&pace=0.02", EXHAUSTIVE) for batch in BATCHES]
    jobs = [Job(f"nasnet-{job.graph.batch}", job.graph, job.device, EXHAUSTIVE) for job in jobs]
    events: list[tuple[float, Event]] = []
    with LatencyDatabase(str(folder / "latency.db")) as database:
        executor: Executor = RayExecutor()
        try:
            began = time.perf_counter()
            driver = Driver(jobs, database, executor, emit=lambda e: events.append((time.perf_counter(), e)))
            driver.run()
        finally:
            executor.close()
    tasks = [(at - event.fields["seconds"], at, event) for at, event in events if event.name == "task_done"]
    first = min(begin for begin, _, _ in tasks)
    last = max(at for _, at, _ in tasks)
    stages = sum(event.fields["stages"] for _, _, event in tasks)
    # What remains at the end does not fill 64 devices: the rate is that of the time before.
    full = sorted(at for _, at, _ in tasks)[int(0.95 * len(tasks))]
    used = sum(max(0.0, min(at, full) - max(begin, first)) for begin, at, _ in tasks)
    total = sum(at - begin for begin, at, _ in tasks)
    return {
        "stages": stages,
        "stages/s": stages / (last - first),
        "busy, first 95% of the tasks": used / (64 * (full - first)),
        "busy, over all": total / (64 * (last - first)),
        "seconds of preparing": first - began,
    }


BATCHES = (1, 2, 4, 8)
