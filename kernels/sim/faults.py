"""Devices that fail on purpose: `sim:v100?kill=0.01&hang=0.001`, to see what a farm makes of it.

A fault strikes when a stage is prepared. Chances are drawn anew in each process, so that a stage which has ended one
worker need not end the next; `poison` names those that do. In a process that only holds workers
(`IOSFARM_WORKER_PROCESS`) faults are real: the process kills itself, or sleeps for ever. Elsewhere, where they would
take the search with them, both are told as the loss of the device.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from itertools import count
from typing import NoReturn

from iosfarm.ir.errors import DeviceLost, UsageError

WORKER_PROCESS = "IOSFARM_WORKER_PROCESS"
"""In the environment of a process that may be ended: nothing but workers would be lost."""

FOREVER = 10**9
_started = count()


@dataclass(frozen=True)
class FaultSpec:
    """kill, hang, oom: the chance that a stage ends the worker's process, hangs, or finds no memory. drift: by how much
    all latencies have grown, relative, once `DRIFT_STAGES` stages were measured. lie: a factor on all latencies.
    poison: the beginning of the keys of stages that end the process each time. pace: seconds that a stage really takes
    to measure.
    """

    kill: float = 0.0
    hang: float = 0.0
    oom: float = 0.0
    drift: float = 0.0
    lie: float = 1.0
    poison: str = ""
    pace: float = 0.0


DRIFT_STAGES = 100
"""Stages after which a device has drifted as far as it does."""

LIMITS = {
    "kill": (0.0, 1.0),
    "hang": (0.0, 1.0),
    "oom": (0.0, 1.0),
    "drift": (-0.9, 100.0),
    "lie": (0.01, 100.0),
    "pace": (0.0, 60.0),
}
"""Least and most of each number."""


def parse_fault(name: str, value: str, where: str) -> float | str:
    """The value of an option of `FaultSpec`.

    Raises:
        UsageError: it is out of range.
    """
    if name == "poison":
        if not value or set(value) - set("0123456789abcdef"):
            raise UsageError(f"poison is {value!r}", where=where, hint="use the first hex digits of stage keys")
        return value
    least, most = LIMITS[name]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise UsageError(f"{name} is {value!r}", where=where, hint=f"use a number from {least:g} to {most:g}")
    return number


class Faults:
    """Strikes a device as its spec says. `strike` before each stage, `factor` on each latency."""

    def __init__(self, spec: FaultSpec, seed: int = 0) -> None:
        self._spec = spec
        self._real = WORKER_PROCESS in os.environ
        process = f"{os.getpid()}:{time.time_ns()}" if self._real else ""
        self._random = random.Random(f"{seed}:{next(_started)}:{process}")
        self._measured = 0

    def strike(self, key: str) -> None:
        """Before the stage of this key.

        Raises:
            MemoryError, DeviceLost: as the spec says.
        """
        spec = self._spec
        if spec.pace:
            time.sleep(spec.pace)
        self._measured += 1
        if spec.poison and key.startswith(spec.poison):
            self._die("poison")
        for chance, happen in ((spec.kill, self._die), (spec.hang, self._hang), (spec.oom, self._out_of_memory)):
            if chance and self._random.random() < chance:
                happen("fault injection")

    @property
    def factor(self) -> float:
        """What latencies are multiplied with by now."""
        return self._spec.lie * (1 + self._spec.drift * min(1.0, self._measured / DRIFT_STAGES))

    def _die(self, why: str) -> NoReturn:
        if self._real:
            os.kill(os.getpid(), signal.SIGKILL)
        raise DeviceLost(f"the worker was killed ({why})")

    def _hang(self, why: str) -> NoReturn:
        while self._real:
            time.sleep(FOREVER)
        raise DeviceLost(f"the worker hung ({why})")

    def _out_of_memory(self, why: str) -> NoReturn:
        raise MemoryError(f"no memory is free ({why})")
