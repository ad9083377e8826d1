"""The measuring protocol: warm up, unroll, interleave, watch a reference, stop when the median is known.

Stages are measured in chunks. Each round takes one sample of every stage of the chunk that is not done, then one of a
fixed reference stage. A round in which the reference is off its median was disturbed, and is taken again.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from iosfarm.ir.device import Fact
from iosfarm.ir.errors import DeviceLost, Infeasible
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.stage import Stage
from iosfarm.kernels.runtime import Executable, Runtime
from iosfarm.kernels.steady import reference_stage as reference_stage
from iosfarm.workers.conditions import read_conditions
from iosfarm.workers.failures import Failure
from iosfarm.workers.settings import MeasureSettings

REFERENCE_SAMPLE = 5
"""Executions of the reference stage in a round; the least counts, which an interruption does not change."""

Clock = Callable[[], float]


def measure(
    runtime: Runtime,
    stages: Sequence[Stage],
    settings: MeasureSettings | None = None,
    *,
    worker: str = "",
    clock: Clock = time.monotonic,
    conditions: Callable[[], Mapping[str, Fact]] = read_conditions,
) -> Iterator[Measurement]:
    """One measurement for each stage, in order, chunk by chunk.

    A stage that cannot run here is `infeasible`; an exception makes it `failed`, and the others go on; `DeviceLost`
    alone ends all. `clock` tells seconds for timeouts; samples are timed by the device. Stopping early (closing the
    iterator) gives all back. The conditions tell the chunk's `reference`, the median seconds of the reference stage,
    and of a stage without samples its `failure` (see `Failure`). A device that says why what it does is `void` just
    then makes all stages of the chunk `failed`.
    """
    settings = settings or MeasureSettings()
    if not stages:
        return
    with runtime.prepare(reference_stage(runtime.layout)) as reference:
        for first in range(0, len(stages), settings.chunk):
            chunk = _Chunk(runtime, reference, settings, clock)
            before = dict(conditions())
            try:
                chunk.prepare(stages[first : first + settings.chunk])
                chunk.take_rounds()
            finally:
                chunk.close()
            after = conditions()
            state = {**before, **_throttling(before, after), "reference": chunk.reference}
            if void := before.get("void") or after.get("void"):
                chunk.reject(str(void))
            yield from [subject.measurement(worker, state) for subject in chunk.subjects]


def spread(samples: Sequence[float]) -> float:
    """Estimated standard deviation, relative to the median; outliers hardly count."""
    middle = statistics.median(samples)
    return 1.4826 * statistics.median(abs(s - middle) for s in samples) / middle


def relative_median_error(samples: Sequence[float]) -> float:
    """Estimated standard error of the samples' median, relative to it (for normal samples)."""
    return 1.2533 * spread(samples) / math.sqrt(len(samples))


def _throttling(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> dict[str, Fact]:
    """What changed for the worse while we measured: throttlings as a difference, the lower of two clocks."""
    state: dict[str, Fact] = {}
    for name, worse in _WORSE.items():
        first, last = before.get(name), after.get(name)
        if isinstance(first, int | float) and isinstance(last, int | float):
            state[name] = worse(first, last)
    return state


_WORSE: Mapping[str, Callable[[float, float], float]] = {
    "throttled": lambda before, after: after - before,
    "frequency": min,
    "load": max,
    "temperature": max,
    "power": max,
    "other_processes": max,
    "clock_reasons": lambda before, after: int(before) | int(after),  # a bit for each
}


@dataclass
class _Subject:
    """A stage under measurement. `problem`: why there will be no samples."""

    stage: Stage
    executable: Executable | None = None
    unroll: int = 1
    samples: list[float] = field(default_factory=list)
    spent: float = 0.0
    drift: float = 0.0
    drifted: bool = False
    problem: tuple[Status, str] | None = None
    failure: Failure | None = None

    def finished(self, settings: MeasureSettings) -> bool:
        """Whether the median is known, or as well as it will be."""
        if self.problem is not None or len(self.samples) >= settings.max_samples:
            return True
        if len(self.samples) >= settings.min_samples:
            return self.spent > settings.timeout or relative_median_error(self.samples) <= settings.precision
        if self.spent > settings.timeout:
            self.problem = Status.TIMEOUT, f"{len(self.samples)} samples in {self.spent:.1f} s"
            self.failure = Failure.TIMEOUT
            return True
        return False

    def measurement(self, worker: str, state: Mapping[str, Fact]) -> Measurement:
        """What became of it."""
        if self.problem is not None:
            status, reason = self.problem
            failed = {**state, "failure": self.failure.value} if self.failure else state
            return Measurement(self.stage.key, status, reason=reason, worker=worker, conditions=failed)
        facts = {**state, "drift": round(self.drift, 4), "drifted": self.drifted}
        return Measurement(
            self.stage.key, Status.OK, tuple(self.samples), self.unroll, len(self.samples), "", worker, conditions=facts
        )


class _Chunk:
    """Stages that take turns."""

    def __init__(self, runtime: Runtime, reference: Executable, settings: MeasureSettings, clock: Clock) -> None:
        self.subjects: list[_Subject] = []
        self._runtime = runtime
        self._reference = reference
        self._settings = settings
        self._clock = clock
        self._references: list[float] = []

    def prepare(self, stages: Sequence[Stage]) -> None:
        """Prepare, warm up and choose how often to repeat, stage by stage."""
        for stage in stages:
            subject = _Subject(stage)
            self.subjects.append(subject)
            self._attempt(subject, self._warm_up)
        self._references = [self._reference_time() for _ in range(5)]

    def take_rounds(self) -> None:
        """Rounds until every stage is finished."""
        while active := [s for s in self.subjects if not s.finished(self._settings)]:
            self._take_round(active)

    @property
    def reference(self) -> float:
        """Seconds that the reference stage took, the median of all rounds."""
        return statistics.median(self._references)

    def reject(self, reason: str) -> None:
        """What was measured does not count: the device says that it was not itself."""
        for subject in self.subjects:
            subject.problem = subject.problem or (Status.FAILED, reason)

    def close(self) -> None:
        """Give every stage back, whatever another one does."""
        for subject in self.subjects:
            if subject.executable is not None:
                with suppress(DeviceLost):  # which ends the process, and gives back more
                    self._attempt(subject, lambda s: s.executable.close() if s.executable else None)

    def _warm_up(self, subject: _Subject) -> None:
        settings = self._settings
        subject.executable = self._runtime.prepare(subject.stage)
        shortest = min(subject.executable.time(settings.warmup))
        subject.unroll = max(1, min(settings.max_unroll, math.ceil(settings.min_sample / shortest)))

    def _take_round(self, active: Sequence[_Subject]) -> None:
        for attempt in range(self._settings.retakes + 1):
            taken: list[tuple[_Subject, float]] = []

            def sample(subject: _Subject, taken: list[tuple[_Subject, float]] = taken) -> None:
                assert subject.executable is not None
                taken.append((subject, statistics.fmean(subject.executable.time(subject.unroll))))

            for subject in active:
                if subject.problem is None:
                    self._attempt(subject, sample)
            reference = self._reference_time()
            drift = reference / statistics.median(self._references) - 1
            # A machine that does other work is never within 3%: what counts is to be off further than is usual.
            drifted = abs(drift) > max(self._settings.drift, 3 * spread(self._references))
            self._references.append(reference)
            if not drifted or attempt == self._settings.retakes:
                break
        for subject, value in taken:
            subject.samples.append(value)
            subject.drifted |= drifted
            if abs(drift) > abs(subject.drift):
                subject.drift = drift

    def _reference_time(self) -> float:
        return min(self._reference.time(REFERENCE_SAMPLE))

    def _attempt(self, subject: _Subject, action: Callable[[_Subject], None]) -> None:
        """Do something with a stage; what goes wrong is its own problem."""
        begin = self._clock()
        try:
            action(subject)
        except DeviceLost:
            raise
        except Infeasible as error:
            subject.problem = Status.INFEASIBLE, str(error)
        except Exception as error:
            subject.problem = Status.FAILED, " ".join(f"{type(error).__name__}: {error}".split())
            subject.failure = Failure.OUT_OF_MEMORY if isinstance(error, MemoryError) else Failure.RAISED
        subject.spent += self._clock() - begin
