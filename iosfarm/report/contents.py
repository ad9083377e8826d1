"""What a report says, whatever it is written as. Durations are in seconds; units and stages are named by their numbers.

`dataclasses.asdict` of a `Report` is a JSON document: it holds no NaN and no infinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iosfarm.ir.device import Fact


@dataclass(frozen=True)
class Box:
    """Units on one stream, one after the other or merged into one. begin: since the stage began."""

    row: int
    units: tuple[int, ...]
    begin: float
    seconds: float
    merged: bool


@dataclass(frozen=True)
class Cost:
    """Of stages: measured, None where they were not or cannot run; at_least: a bound, None where there is none."""

    measured: float | None
    at_least: float | None
    statistical: bool


@dataclass(frozen=True)
class Choice:
    """What could have run instead of a stage: strategies and groups of units, one stage after the other.

    simpler: the stage's own groups or units, one after the other. own: these stages. part: the whole part with them.
    """

    strategies: tuple[str, ...]
    groups: tuple[tuple[tuple[int, ...], ...], ...]
    own: Cost
    part: Cost
    infeasible: bool
    samples: int | None
    expected: float | None
    simpler: bool
    why: str


@dataclass(frozen=True)
class Alternatives:
    """others: how many stages could run in a stage's place, None: not known; `choices` are the best of them."""

    others: int | None
    measured: int
    infeasible: int
    part: Cost
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StageReport:
    """One stage. begin, seconds: on the time axis. predicted: None where its latency is not known.

    alone: its units one after the other. samples: None where they are not known.
    """

    part: int
    strategy: str
    rows: int
    boxes: tuple[Box, ...]
    begin: float
    seconds: float
    predicted: float | None
    alone: float | None
    samples: tuple[float, ...] | None
    measured_at: str | None
    alternatives: Alternatives | None


@dataclass(frozen=True)
class UnitReport:
    """One unit. label: the words of the operator that says the most of it.

    begin, seconds: when it runs in the sequential schedule. share: of its stage's time, in seconds. layer, column:
    where the drawing of the graph has it; columns are counted from the middle. reads: units.
    """

    name: str
    words: str
    label: str
    shape: str
    stage: int
    begin: float
    seconds: float
    share: float
    layer: int
    column: float
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Latency:
    """Of one whole schedule: the sum of its stages, and end to end."""

    name: str
    predicted: float | None
    measured: float | None
    samples: tuple[float, ...]
    error: float | None


@dataclass(frozen=True)
class Share:
    """Where the time goes: of one kind of unit, or one part, under the sequential and the chosen schedule."""

    name: str
    units: int
    sequential: float
    chosen: float


@dataclass(frozen=True)
class Point:
    """What the search knew at one time."""

    seconds: float
    known: int
    lower: float
    upper: float


@dataclass(frozen=True)
class Proof:
    """The certificate of the optimised schedule."""

    kind: str
    lower: float
    upper: float
    gap: float | None
    confidence: float | None
    audited: int
    broken: int
    assumptions: tuple[str, ...]
    history: tuple[Point, ...]


@dataclass(frozen=True)
class ScheduleReport:
    """One schedule. interrupted: its search had not come to its end.

    timed: whether the time axis is in seconds; else every stage is as long as another. weighed: whether units' own
    latencies are measured; else they are estimated. sequential, best: end to end, else predicted, as `measured` says.
    facts: provenance, in groups. missing: what could not be said, and why.
    """

    model: str
    batch: int
    dtype: str
    device: str
    spec: str
    simulated: bool
    interrupted: bool
    where: str
    chosen: str
    sequential: float | None
    best: float | None
    speedup: float | None
    measured: bool
    timed: bool
    weighed: bool
    units: tuple[UnitReport, ...]
    stages: tuple[StageReport, ...]
    latencies: tuple[Latency, ...]
    kinds: tuple[Share, ...]
    parts: tuple[Share, ...]
    proof: Proof | None
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    facts: Mapping[str, Mapping[str, Fact]]

    @property
    def length(self) -> float:
        """Of the chosen schedule on the time axis."""
        return self.stages[-1].begin + self.stages[-1].seconds

    @property
    def sequential_length(self) -> float:
        """Of the sequential schedule on the time axis."""
        return self.units[-1].begin + self.units[-1].seconds


@dataclass(frozen=True)
class RunReport:
    """The run of `iosfarm search` that the schedules are of. without: searches without a schedule, in words."""

    id: int
    facts: Mapping[str, Fact]
    note: str
    without: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """created: UTC, as ISO 8601. iosfarm: the version that wrote it."""

    title: str
    created: str
    iosfarm: str
    runs: tuple[RunReport, ...]
    schedules: tuple[ScheduleReport, ...]
