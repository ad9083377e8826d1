"""Turns: frameworks that are open are timed one after the other, round after round, in an order that turns."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from iosfarm.compare.process import Failed, FrameworkProcess, Interrupted
from iosfarm.compare.registry import Framework
from iosfarm.compare.rows import Row, Status
from iosfarm.compare.settings import Settings, Watch

TURN_SECONDS = 0.1
"""How long a turn lasts at least: one execution of a small network would feel every interruption."""
MOST_REPEATS = 20
"""Executions of a turn at most."""
FEWEST_SAMPLES = 3
"""Of a framework that has used up its time; one sample is enough where these would take longer than that."""


@dataclass
class Entry:
    """A framework under way."""

    framework: Framework
    row: Row
    process: FrameworkProcess | None = None
    samples: list[float] = field(default_factory=list)
    spent: float = 0.0

    def end(self, status: Status, reason: str) -> None:
        """It has no latency to show."""
        self.row = replace(self.row, status=status, reason=reason, samples=())
        if self.process is not None:
            self.process.close()
            self.process = None


def take_turns(entries: Sequence[Entry], settings: Settings, watch: Watch) -> None:
    """Every framework in turn, in an order that turns, until each has had its time or is known well enough."""
    from iosfarm.workers.measuring import relative_median_error

    turn = 0
    while True:
        waiting = [entry for entry in entries if entry.process is not None and not _known(entry, settings, turn)]
        if not waiting:
            return
        for step in range(len(waiting)):
            entry = waiting[(turn + step) % len(waiting)]
            if watch.stop():
                raise Interrupted
            assert entry.process is not None
            repeats = 1
            if entry.samples:
                repeats = min(MOST_REPEATS, max(1, math.ceil(TURN_SECONDS / min(entry.samples))))
            begin = time.monotonic()
            try:
                answer = entry.process.request({"do": "time", "repeats": repeats}, settings.timeout, watch.stop)
            except Failed as failure:
                entry.end(failure.status, f"while it was timed: {failure.reason}")
                continue
            entry.spent += time.monotonic() - begin
            found = answer["samples"]
            assert isinstance(found, list)
            entry.samples += found
            error = relative_median_error(entry.samples)
            watch.say(f"{entry.framework.title}: {len(entry.samples)} samples, ±{error:.1%}")
        turn += 1


def _known(entry: Entry, settings: Settings, turn: int) -> bool:
    from iosfarm.workers.measuring import relative_median_error

    if entry.spent >= settings.seconds:
        slow = bool(entry.samples) and min(entry.samples) * FEWEST_SAMPLES > settings.seconds
        return slow or len(entry.samples) >= FEWEST_SAMPLES
    return turn >= settings.rounds and relative_median_error(entry.samples) <= settings.precision
