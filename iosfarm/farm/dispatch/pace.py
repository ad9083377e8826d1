"""How long measuring takes on a kind of device: what task sizes and deadlines are made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from iosfarm.farm.dispatch.policy import Policy
from iosfarm.workers.settings import Effort

FORGET = 0.98
"""Weight of what was seen before, each time a task ends: devices and stages change."""


@dataclass
class _Line:
    """Least squares of seconds on stages and their size, both of a task: seconds = a · stages + b · size, a, b >= 0."""

    nn: float = 0.0
    ns: float = 0.0
    ss: float = 0.0
    nt: float = 0.0
    st: float = 0.0

    def add(self, stages: float, size: float, seconds: float) -> None:
        weight = 1 / stages  # the variance of a sum grows with its terms
        for name, value in {
            "nn": stages * stages, "ns": stages * size, "ss": size * size, "nt": stages * seconds, "st": size * seconds,
        }.items():  # fmt: skip
            setattr(self, name, FORGET * getattr(self, name) + weight * value)

    def solve(self) -> tuple[float, float]:
        determinant = self.nn * self.ss - self.ns * self.ns
        if determinant > 1e-9 * self.nn * self.ss:
            a = (self.nt * self.ss - self.st * self.ns) / determinant
            b = (self.st * self.nn - self.nt * self.ns) / determinant
            if a >= 0 and b >= 0:
                return a, b
            if a < 0:
                return 0.0, self.st / self.ss
        return self.nt / self.nn, 0.0


@dataclass
class Pace:
    """Learns from tasks that have ended. `size` of a stage: anything that grows with its latency."""

    simulated: bool
    policy: Policy
    _lines: dict[Effort, _Line] = field(default_factory=dict)

    def learn(self, effort: Effort, stages: int, size: float, seconds: float) -> None:
        """A task of so many stages, of a size together, has taken so long."""
        if stages > 0 and seconds >= 0:
            self._lines.setdefault(effort, _Line()).add(stages, size, seconds)

    def expected(self, effort: Effort, stages: int, size: float) -> float | None:
        """Seconds; None where nothing is known."""
        line = self._lines.get(effort)
        if line is None:
            return None
        a, b = line.solve()
        return a * stages + b * size

    @property
    def most(self) -> int:
        """Stages of a task, at most."""
        return self.policy.most_simulated_stages if self.simulated else self.policy.most_stages

    def fitting(self, effort: Effort, sizes: list[float]) -> int:
        """How many of these stages, the first ones, make a task: at least one."""
        line, most = self._lines.get(effort), min(self.most, len(sizes))
        if line is None:
            most = min(most, max(1, self.most // 4)) if not self.simulated else most
            # Another effort's is a guess: without one, a driver would claim all that is to be measured carefully in the
            # end, while the devices of the others have nothing to do.
            line = next(iter(self._lines.values()), None)
        if line is None:
            return most
        a, b = line.solve()
        left = self.policy.simulated_chunk if self.simulated else self.policy.chunk
        for count, size in enumerate(sizes[:most]):
            left -= a + b * size
            if left < 0 and count > 0:
                return count
        return most

    def deadline(self, effort: Effort, stages: int, size: float) -> float:
        """Seconds after which a task of these stages has hung."""
        expected = self.expected(effort, stages, size)
        return self.policy.hang + self.policy.hang_factor * (expected or 0.0)
