"""Whether to believe a device: canary stages against its peers, and its reference stage against its own start.

The canaries are the first that a device measures where it has peers: a device that disagrees with them measures nothing
else. After that the reference stage, which the protocol measures in every round, is the canary of each task: what comes
with one that is off is not believed, and measured elsewhere. So nothing has to be taken back.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.stage import Stage
from iosfarm.workers.failures import Failure
from iosfarm.workers.measuring import reference_stage


@cache
def canaries(layout: str) -> tuple[Stage, ...]:
    """What every device has to agree on: one stage that computes, one that moves memory, one of two groups."""
    b = GraphBuilder("canaries")
    x = b.input((64, 56, 56))
    wide = b.conv2d(x, 128, 3, padding=1)
    pool = b.max_pool(x, 3, stride=1, padding=1)
    narrow = b.conv2d(x, 64, 1)
    graph = b.build(b.concat(wide, pool, narrow))
    made = [canonical_stage(graph, groups, layout=layout).stage for groups in ([[0]], [[1]], [[0], [2]])]
    return (reference_stage(layout), *made)


@dataclass
class Trust:
    """Of one pool of devices. tolerance: relative. strikes: tasks in a row with a canary that is off, before a device
    is no longer believed.
    """

    tolerance: float
    strikes: int
    _gates: dict[str, dict[str, float]] = field(default_factory=dict)
    _starts: dict[str, float] = field(default_factory=dict)
    _strikes: dict[str, int] = field(default_factory=dict)

    def enter(self, device: str, seconds: Mapping[str, float], reference: float) -> None:
        """What a device has measured of its canaries, by key, and its reference stage then."""
        self._gates[device] = dict(seconds)
        self._starts.setdefault(device, reference)
        self._strikes[device] = 0

    def forget(self, device: str) -> None:
        """A device whose worker has ended: its canaries are measured anew. What its reference took stays: it is the
        same device.
        """
        self._gates.pop(device, None)

    def entered(self, device: str) -> bool:
        """Whether its canaries are known."""
        return device in self._gates

    def liars(self) -> dict[str, str]:
        """Devices whose canaries disagree with most others', and how. Two that disagree cannot be told apart."""
        keys = {key for known in self._gates.values() for key in known}
        found: dict[str, str] = {}
        for key in keys:
            values = {device: known[key] for device, known in self._gates.items() if key in known}
            if len(values) < 3:
                continue
            middle = statistics.median(values.values())
            agreeing = sum(1 for value in values.values() if self._close(value, middle))
            if 2 * agreeing <= len(values):
                continue
            for device, value in values.items():
                if not self._close(value, middle):
                    found[device] = f"a canary stage takes {value / middle:.2f} of what it takes on its peers"
        return found

    def disputed(self) -> str:
        """A note where two devices disagree and no third one can tell which is wrong; empty where none do."""
        if len(self._gates) != 2:
            return ""
        (one, first), (other, second) = self._gates.items()
        for key in first.keys() & second.keys():
            if not self._close(first[key], second[key]):
                return f"{one} and {other} disagree by {first[key] / second[key] - 1:+.0%}, and no third one can tell"
        return ""

    def judge(self, device: str, reference: float) -> Failure | None:
        """Whether a task with this reference (seconds) is to be believed; None: it is."""
        start = self._starts.setdefault(device, reference)
        if self._close(reference, start):
            self._strikes[device] = 0
            return None
        self._strikes[device] = self._strikes.get(device, 0) + 1
        return Failure.DRIFT

    def off(self, device: str, reference: float) -> float:
        """A reference relative to the device's start."""
        return reference / self._starts.get(device, reference)

    def struck_out(self, device: str) -> bool:
        """Whether a device has drifted for good."""
        return self._strikes.get(device, 0) >= self.strikes

    def rebase(self, device: str) -> None:
        """Take a device as it is now: where it has no peers, its drift is all that is known."""
        self._starts.pop(device, None)
        self._strikes[device] = 0

    def _close(self, one: float, other: float) -> bool:
        return abs(one - other) <= self.tolerance * min(one, other)
