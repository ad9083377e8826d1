"""Devices that fail in a given order, in this process and without waiting: time is a number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from iosfarm.farm.dispatch.trust import canaries
from iosfarm.farm.executors.executor import Change, DeviceInfo, EvaluateTask, MeasureTask, Outcome, Task, Turn
from iosfarm.farm.executors.inline_executor import InlineExecutor
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.stage import Stage
from iosfarm.workers.failures import Failure

FAULTS = ("none", "killed", "hung", "out_of_memory", "raised", "timeout", "drift", "leaves")
JUMP = 1e6
"""Seconds, longer than any deadline."""


@dataclass(frozen=True)
class Fault:
    """What happens to the next task: of the device at `turn` (of those that have one), to the stage at `victim`."""

    kind: str
    turn: int = 0
    victim: int = 0


class FaultyExecutor:
    """Simulated devices. faults: what happens to one task after the other; nothing more once they are used up. A stage
    fails by itself at most `most` times: more would be its own fault. So do a device's canaries, and so often it drifts
    after them: more, and it is not believed. poison: what ends a worker each time.
    """

    def __init__(self, faults: Sequence[Fault] = (), most: int = 2, poison: str = "") -> None:
        self.now = 0.0
        self.alone: dict[str, int] = {}
        self.happened: list[str] = []
        self.measured: list[tuple[str, str]] = []  # device and stage, each time
        self._inner = InlineExecutor()
        self._faults: Iterator[Fault] = iter(faults)
        self._most = most
        self._poison = poison
        self._tasks: dict[str, list[tuple[int, Task]]] = {}
        self._hung: set[str] = set()
        self._ended: list[Outcome] = []
        self._changes: list[Change] = []
        self._infos: dict[str, DeviceInfo] = {}
        self._submitted = 0

    @property
    def names(self) -> set[str]:
        return set(self._infos)

    def clock(self) -> float:
        return self.now

    def open(self, selector: str) -> list[DeviceInfo]:
        infos = self._inner.open(selector)
        for info in infos:
            instance = {"device": info.name}
            self._infos[info.name] = replace(info, device=replace(info.device, instance=instance))
            self._tasks.setdefault(info.name, [])
        return [self._infos[info.name] for info in infos]

    def submit(self, device: str, task: Task) -> int:
        self._submitted += 1
        self._tasks[device].append((self._submitted, task))
        return self._submitted

    def pending(self, device: str) -> int:
        return len(self._tasks[device])

    def wait(self, timeout: float) -> list[Outcome]:
        if not self._ended:
            self._happen()
        ended, self._ended = self._ended, []
        return ended

    def _happen(self) -> None:
        able = sorted(device for device, tasks in self._tasks.items() if tasks and device not in self._hung)
        if not able:
            self.now += JUMP if self._hung else 0.01  # whoever hangs is found out
            return
        fault = next(self._faults, Fault("none"))
        device = able[fault.turn % len(able)]
        number, task = self._tasks[device][0]
        kind = fault.kind if self._may(device, task, fault.kind) else "none"
        if self._poison and isinstance(task, MeasureTask):
            stages = [Stage.from_json(text).key for text in task.stages]
            kind = "killed" if any(key.startswith(self._poison) for key in stages) else kind
        self.happened.append(kind)
        if kind == "hung":
            self._count(task)
            self._hung.add(device)
        elif kind == "killed" or (kind == "leaves" and len(self._tasks) > 1):
            self._count(task)
            self._end(device, Failure.KILLED, "the worker died")
            if kind == "leaves":
                del self._tasks[device]
                self._changes.append(Change(Turn.LEFT, self._infos[device], reason="switched off"))
            else:
                self._changes.append(Change(Turn.RESTORED, self._infos[device]))
        else:
            self._tasks[device].pop(0)
            self._ended.append(self._spoiled(device, number, task, fault if kind == fault.kind else Fault("none")))

    def _may(self, device: str, task: Task, kind: str) -> bool:
        """Whether a task may fail: not if it is the last chance of a stage, or of the device."""
        if kind == "none":
            return False
        if not isinstance(task, MeasureTask):
            return self.alone.get("evaluation", 0) < self._most
        canary = task.stages[0] == canaries("nhwc")[0].canonical
        if kind == "drift" or canary:
            self.alone[device] = self.alone.get(device, 0) + 1
            return self.alone[device] <= self._most and not (kind == "drift" and canary)
        keys = [Stage.from_json(text).key for text in task.stages]
        return all(self.alone.get(key, 0) < self._most for key in keys)

    def _count(self, task: Task) -> None:
        if not isinstance(task, MeasureTask):
            self.alone["evaluation"] = self.alone.get("evaluation", 0) + 1
        elif len(task.stages) == 1:
            key = Stage.from_json(task.stages[0]).key
            self.alone[key] = self.alone.get(key, 0) + 1

    def _spoiled(self, device: str, number: int, task: Task, fault: Fault) -> Outcome:
        if fault.kind == "raised":
            self._count(task)
            failure = Failure.OUT_OF_MEMORY if isinstance(task, EvaluateTask) else Failure.RAISED
            return Outcome(number, device, error="RuntimeError: it broke", failure=failure, seconds=1.0)
        self._inner.submit(device, task)
        (outcome,) = self._inner.wait(0.0)
        outcome = replace(outcome, task=number, seconds=1.0)
        if not isinstance(task, MeasureTask):
            return outcome
        measurements = list(outcome.measurements)
        victim = fault.victim % len(measurements)
        if fault.kind in ("out_of_memory", "timeout"):
            key = measurements[victim].stage_key
            self.alone[key] = self.alone.get(key, 0) + 1
            status = Status.TIMEOUT if fault.kind == "timeout" else Status.FAILED
            measurements[victim] = Measurement(key, status, reason="so", conditions={"failure": fault.kind})
        if fault.kind == "drift":
            measurements = [_slower(measurement) for measurement in measurements]
        self.measured += [(device, m.stage_key) for m in measurements if m.ok and fault.kind != "drift"]
        return replace(outcome, measurements=measurements)

    def _end(self, device: str, failure: Failure, reason: str) -> None:
        for position, (number, _) in enumerate(self._tasks[device]):
            kind = Failure.LOST if position else failure
            self._ended.append(Outcome(number, device, error=reason, failure=kind))
        self._tasks[device].clear()
        self._changes.append(Change(Turn.LOST, self._infos[device], reason=reason))

    def changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    def join(self, device: str, like: str) -> None:
        """One more device."""
        self._inner._workers[device] = self._inner._workers[like]
        self._infos[device] = replace(self._infos[like], name=device)
        self._tasks[device] = []
        self._changes.append(Change(Turn.JOINED, self._infos[device], selector=like))

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        self._hung.discard(device)
        self._end(device, failure, reason)
        self._changes.append(Change(Turn.RESTORED, self._infos[device]))

    def drop(self, device: str) -> None:
        for number, _ in self._tasks.pop(device, []):
            self._ended.append(Outcome(number, device, error="dropped", failure=Failure.LOST))

    def drain(self, timeout: float) -> list[Outcome]:
        self._tasks = {device: [] for device in self._tasks}
        return []

    def close(self) -> None:
        self._inner.close()


def _slower(measurement: Measurement) -> Measurement:
    samples = tuple(1.5 * sample for sample in measurement.samples)
    reference = measurement.conditions["reference"]
    assert isinstance(reference, float)
    return replace(measurement, samples=samples, conditions={**measurement.conditions, "reference": 1.5 * reference})
