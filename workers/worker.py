"""`Worker`: one device, one thing at a time."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NoReturn

from iosfarm.ir.device import Device, Environment, Fact
from iosfarm.ir.errors import GraphError
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.kernels.runtime import Executable, Planning, Weights
from iosfarm.workers.conditions import read_conditions
from iosfarm.workers.evaluating import Evaluation, EvaluationSettings, evaluate
from iosfarm.workers.measuring import measure
from iosfarm.workers.random_weights import random_weights
from iosfarm.workers.settings import MeasureSettings
from iosfarm.workers.turns import turn


class Worker:
    """Measures and evaluates on the device of a spec (`cpu`, `sim:v100`).

    One call at a time: a second one, from another thread, raises RuntimeError instead of disturbing the first.

    Raises:
        UsageError: no such device, or not here.
    """

    def __init__(self, spec: str) -> None:
        # Imported here, so that a driver that only describes workers loads no runtime.
        from iosfarm.kernels import open_runtime

        self.spec = spec
        self.name = f"{platform.node()}:{os.getpid()}:{spec}"
        self._runtime = open_runtime(spec)
        self._busy = threading.Lock()
        self._shared = False  # somebody else's work ran beside ours

    @property
    def layout(self) -> str:
        """The memory layout that stages for this worker have."""
        return self._runtime.layout

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms in which schedules can be executed here."""
        return self._runtime.forms

    def fingerprint(self) -> tuple[Device, Environment]:
        """What measures here, and what else decides a latency."""
        return self._runtime.fingerprint()

    @property
    def plan_scope(self) -> PlanScope | None:
        """Who has the same plans, see `Planning`; None where there are none."""
        return self._runtime.plan_scope if isinstance(self._runtime, Planning) else None

    def tell_plans(self, plans: Iterable[Plan]) -> None:
        """See `Planning`; nothing where there are none."""
        if isinstance(self._runtime, Planning):
            self._runtime.tell_plans(plans)

    def take_plans(self) -> tuple[Plan, ...]:
        """See `Planning`; none where there are none."""
        return tuple(self._runtime.take_plans()) if isinstance(self._runtime, Planning) else ()

    def measure(self, stages: Sequence[str], settings: MeasureSettings | None = None) -> list[Measurement]:
        """One measurement for each stage, given as canonical JSON, in order."""
        return list(self.measure_each(stages, settings))

    def measure_each(self, stages: Sequence[str], settings: MeasureSettings | None = None) -> Iterator[Measurement]:
        """As `measure`, as they come; the worker is busy until the iterator is used up or closed."""
        with self._alone():
            readable = {position: stage for position, text in enumerate(stages) if (stage := _readable(text))}
            measured = measure(
                self._runtime, list(readable.values()), settings, worker=self.name, conditions=self._conditions
            )
            for position, text in enumerate(stages):
                yield next(measured) if position in readable else self._unreadable(text)

    def evaluate(
        self,
        graph: Graph,
        schedules: Mapping[str, Schedule],
        weights: Weights | None,
        seed: int,
        settings: EvaluationSettings,
    ) -> Evaluation:
        """Whole schedules side by side, see `evaluate`; weights None: random ones from `seed`."""
        with self._alone():
            given = random_weights(graph, seed) if weights is None else weights

            def prepare(schedule: Schedule) -> Executable:
                return self._runtime.prepare_schedule(graph, schedule, given)

            return evaluate(prepare, graph, schedules, given, settings, seed)

    @cached_property
    def _device(self) -> Device:
        return self._runtime.fingerprint()[0]

    def _conditions(self) -> dict[str, Fact]:
        """The machine's state, and the device's own where it tells of it."""
        told = getattr(self._runtime, "conditions", dict)
        shared: dict[str, Fact] = {"shared": True} if self._shared else {}
        return {**read_conditions(), **told(), **shared}

    def close(self) -> None:
        """Give the device back; closing twice is allowed."""
        self._runtime.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a worker: it holds a device of this process; make one where it is used")

    def _unreadable(self, text: str) -> Measurement:
        try:
            Stage.from_json(text)
        except GraphError as error:
            # The key of a stage is the hash of its text, so whoever asked can tell which one this is.
            key = hashlib.sha256(text.encode()).hexdigest()
            return Measurement(key, Status.FAILED, reason=str(error), worker=self.name)
        raise AssertionError("read it before")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(f"the worker of {self.spec} is busy: it does one thing at a time")
        try:
            with turn(self._device) as alone:
                self._shared = not alone
                yield
        finally:
            self._busy.release()


def _readable(text: str) -> Stage | None:
    try:
        return Stage.from_json(text)
    except GraphError:
        return None
