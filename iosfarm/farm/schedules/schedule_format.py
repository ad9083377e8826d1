"""What a schedule file holds; everything in it is checked when it is read. Latencies are in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from iosfarm.ir.schedule import Certificate, CertificatePoint, Schedule, ScheduledStage

FORMAT = "iosfarm-schedule"
VERSION = 1

Fact = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class StageEntry(_Strict):
    """One stage: groups run side by side, the units of a group in order; in a mixed one, merged where they can be."""

    part: int = Field(ge=0)
    strategy: Literal["concurrent", "merge", "mixed"]
    groups: list[list[str]] = Field(min_length=1)
    key: str
    predicted: float | None = Field(default=None, gt=0)
    measurement: int | None = None


class PointEntry(_Strict):
    """What the search knew at one time."""

    seconds: float = Field(ge=0, description="since it began")
    known: int = Field(ge=0, description="distinct stages")
    lower: float = Field(ge=0)
    upper: float = Field(gt=0)


class CertificateEntry(_Strict):
    """How far the predicted latency can be from the best of the search space."""

    kind: Literal["exhaustive", "structural", "statistical"]
    lower: float = Field(ge=0)
    upper: float = Field(gt=0)
    gap: float | None = Field(default=None, ge=0, description="(upper - lower) / lower; null where lower is 0")
    assumptions: list[str] = []
    audited: int = Field(default=0, ge=0, description="bounds that were put to the test by a measurement")
    broken: int = Field(default=0, ge=0, description="those that failed")
    structural: float | None = Field(default=None, ge=0, description="lower bound without statistics")
    confidence: float | None = Field(default=None, gt=0, lt=1, description="of each statistical bound")
    history: list[PointEntry] = Field(default=[], description="how the bounds drew together")

    def value(self) -> Certificate:
        """The entry as a `Certificate`."""
        assumptions = tuple(self.assumptions)
        found = self.audited, self.broken, self.structural, self.confidence
        history = tuple(CertificatePoint(p.seconds, p.known, p.lower, p.upper) for p in self.history)
        return Certificate(self.kind, self.lower, self.upper, assumptions, *found, history)


class LatencyEntry(_Strict):
    """One schedule's latency: the sum of its stages, and what was measured end to end."""

    key: str = Field(default="", description="of the schedule: a hash of its stages' keys")
    predicted: float | None = Field(default=None, gt=0)
    measured: float | None = Field(default=None, gt=0, description="median of the samples")
    samples: list[float] = []
    relative_error: float | None = Field(default=None, ge=0, description="against float64; null: not checked")


class DeviceEntry(_Strict):
    """What measured."""

    spec: str
    kind: str
    model: str
    simulated: bool
    properties: dict[str, Fact]
    environment: dict[str, Fact]
    environment_soft: dict[str, Fact]


class SettingsEntry(_Strict):
    """How the schedule was searched for."""

    method: str
    gap: float | None = Field(default=None, ge=0, description="to stop at; null: exhaustive")
    certificate: str | None = None
    confidence: float | None = None
    max_group_size: int | None
    max_groups: int | None
    strategies: list[str]
    endings: str
    max_part_size: int
    budget: float | None = Field(description="seconds")
    budget_stages: int | None = None
    seed: int


class CountsEntry(_Strict):
    """Distinct stages of the search."""

    stages: int = Field(description="that there are")
    found: int
    measured: int
    failed: int
    infeasible: int
    checked: int = Field(default=0, description="measured again with more samples")
    rounds: int = Field(default=0, description="how often the search asked for stages")


class WonEntry(_Strict):
    """A move beyond the search space that measured better; seconds of the stages that it replaced."""

    description: str
    before: float = Field(gt=0)
    after: float = Field(gt=0)


class ScheduleFile(_Strict):
    """The whole document."""

    format: Literal["iosfarm-schedule"] = "iosfarm-schedule"
    version: Literal[1] = 1
    iosfarm: str
    created: datetime
    model: str
    graph_hash: str
    batch: int = Field(ge=1)
    dtype: str
    layout: str
    device: DeviceEntry
    chosen: Literal[
        "optimised", "refined", "sequential", "greedy", "free", "free-shortest", "free-critical", "free-tuned"
    ] = Field(description="which schedule `stages` are")
    form: Literal["stages", "free", "free-shortest", "free-critical", "free-tuned"] = Field(
        default="stages", description="with a barrier between stages, or with true dependencies alone, in which order"
    )
    stages: list[StageEntry] = Field(min_length=1)
    certificate: CertificateEntry | None = Field(description="of the optimised schedule")
    latencies: dict[str, LatencyEntry]
    settings: SettingsEntry
    counts: CountsEntry
    seconds: float = Field(ge=0)
    interrupted: bool
    regret: float | None = Field(default=None, ge=0, description="what noise may have cost on average, relative")
    won: list[WonEntry] = Field(default=[], description="by the refined schedule over the optimised one")
    alone: dict[str, float] = Field(default={}, description="latency of each unit as a stage of its own")
    notes: list[str] = []
    graph: dict[str, Any]

    def schedule(self) -> Schedule:
        """The stages as a `Schedule`, with the certificate if they are the optimised ones."""
        stages = tuple(
            ScheduledStage(s.part, s.strategy, tuple(map(tuple, s.groups)), s.key, s.predicted, s.measurement)
            for s in self.stages
        )
        if self.chosen != "optimised" or self.certificate is None:
            return Schedule(stages, self.chosen, form=self.form)
        return Schedule(stages, self.settings.method, self.certificate.value())
