"""Measurements outside of a database: what an exported line holds, checked when it comes back.

An export is a stream of lines, each of a type: a header, then devices, environments, runs and searches with numbers of
their own that later lines refer to, then plans, each stage followed by its measurements, schedules, and an end. So both
sides need no memory of the whole. Statistics are not exported: they follow from the samples.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from iosfarm.db.exchange.line_fields import (
    Count,
    Digest,
    Facts,
    Finite,
    Line,
    Name,
    Number,
    Seconds,
    Text,
    Time,
    storable_text,
)
from iosfarm.db.plans import FoundPlan
from iosfarm.db.runs import RunSummary
from iosfarm.db.searches import SearchState
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.ir.summary import OperatorSummary, StageSummary

VERSION = 1
"""Of the format. A file of a higher one is refused as a whole."""


class DeviceLine(Line):
    """A device; `device` is its number in this export."""

    type: Literal["device"]
    device: Number
    kind: Name
    model: Name
    properties: Facts
    instance: Facts

    def value(self) -> Device:
        """The device."""
        return Device(self.kind, self.model, self.properties, self.instance)


class EnvironmentLine(Line):
    """An environment; `environment` is its number in this export."""

    type: Literal["environment"]
    environment: Number
    hard: Facts
    soft: Facts

    def value(self) -> Environment:
        """The environment."""
        return Environment(self.hard, self.soft)


class RunLine(Line):
    """A run; `run` is its number in this export. updated: seconds since 1970."""

    type: Literal["run"]
    run: Number
    outcome: SearchState
    started_at: Time
    finished_at: Time | None
    updated: Finite
    models: list[Name]
    devices: list[Name]
    settings: dict[str, Any]
    host: Text
    version: Text
    stages: Count
    measured: Count
    found: Count
    failed: dict[str, Count]
    busy: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    gap: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    note: Text

    def summary(self) -> RunSummary:
        """What it did."""
        return RunSummary(self.stages, self.measured, self.found, self.failed, self.busy, self.gap)


class SearchLine(Line):
    """A search; `search` is its number in this export."""

    type: Literal["search"]
    search: Number
    run: Number | None
    model: Name
    settings: dict[str, Any]
    state: SearchState
    started_at: Time
    finished_at: Time | None
    counts: dict[str, Any] | None


class OperatorEntry(Line):
    """See `OperatorSummary`."""

    kind: Name
    in_channels: Count | None = None
    out_channels: Count | None = None
    height: Count | None = None
    width: Count | None = None
    kernel_height: Count | None = None
    kernel_width: Count | None = None
    stride: Count | None = None


_operator = lru_cache(10_000)(OperatorSummary)
"""Stages share most of their operators; what is one object is handed to another process once."""


class StageLine(Line):
    """A stage, whose measurements follow. Its key is the SHA-256 of `canonical`."""

    type: Literal["stage"]
    key: Digest
    key_version: Count
    canonical: Annotated[str, Field(min_length=2, max_length=10_000_000), AfterValidator(storable_text)]
    strategy: Name
    dtype: Name
    layout: Name
    batch: Count
    groups: Count
    units: Count
    flops: Number
    bytes_moved: Number
    operators: Annotated[list[OperatorEntry], Field(max_length=100_000)]

    @model_validator(mode="after")
    def _own_key(self) -> StageLine:
        if hashlib.sha256(self.canonical.encode()).hexdigest() != self.key:
            raise ValueError("the key is not that of this stage")
        return self

    def value(self) -> StageSummary:
        """The stage."""
        operators = tuple(_operator(**vars(entry)) for entry in self.operators)
        rest = {name: value for name, value in vars(self).items() if name not in ("type", "operators")}
        return StageSummary(**rest, operators=operators)


class MeasurementLine(Line):
    """A measurement of a stage, by key, and of a device, environment and search, by their numbers."""

    type: Literal["measurement"]
    stage: Digest
    device: Number
    environment: Number
    search: Number | None = None
    status: Status
    reason: Text = ""
    samples: Annotated[list[Seconds], Field(max_length=1_000_000)]
    unroll: Annotated[int, Field(ge=1, lt=2**31)]
    rounds: Count
    worker: Text = ""
    attempt: Annotated[int, Field(ge=1, lt=2**31)]
    measured_at: Time
    conditions: Facts

    def value(self) -> Measurement:
        """The measurement.

        Raises:
            ValueError: `ok` without samples, or anything else without a reason.
        """
        return Measurement(
            self.stage,
            self.status,
            tuple(self.samples),
            self.unroll,
            self.rounds,
            self.reason,
            self.worker,
            self.attempt,
            self.measured_at,
            self.conditions,
        )


class ScheduledEntry(Line):
    """See `ScheduledStageRow`; measurement: identity of what the prediction rests on."""

    position: Count
    part: Count
    stage_key: Digest
    strategy: Name
    predicted: Finite | None
    measurement: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None


class ScheduleLine(Line):
    """A schedule that a search has found. document: the schedule file's JSON text."""

    type: Literal["schedule"]
    search: Number | None
    device: Number
    environment: Number
    model: Name
    graph_hash: Text
    batch: Count
    dtype: Name
    predicted: Finite | None
    measured: Finite | None
    lower_bound: Finite | None
    created_at: Time
    document: Annotated[str, Field(max_length=50_000_000), AfterValidator(storable_text)]
    stages: Annotated[list[ScheduledEntry], Field(max_length=1_000_000)]


class PlanLine(Line):
    """A plan; model and facts are its scope's. A program that knows none leaves it out, and says so."""

    type: Literal["plan"]
    model: Name
    facts: Facts
    key: Name
    name: Text
    seconds: Seconds
    found_at: Time

    def value(self) -> FoundPlan:
        """The plan.

        Raises:
            ValueError: a key that is too long.
        """
        return FoundPlan(PlanScope(self.model, self.facts), Plan(self.key, self.name, self.seconds), self.found_at)


class EndLine(Line):
    """The end: an export without it was cut short. lines: how many came before, the header included."""

    type: Literal["end"]
    lines: Number


_Referring = StageLine | MeasurementLine | ScheduleLine
AnyLine = DeviceLine | EnvironmentLine | RunLine | SearchLine | PlanLine | _Referring | EndLine
_LINES: TypeAdapter[AnyLine] = TypeAdapter(Annotated[AnyLine, Field(discriminator="type")])


def read_line(text: bytes | str) -> AnyLine:
    """One line of JSON.

    Raises:
        ValueError: it is not JSON, or not a line; one sentence says why.
    """
    try:
        return _LINES.validate_json(text)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from error


def check_line(value: dict[str, Any]) -> AnyLine:
    """One line that is already a dictionary.

    Raises:
        ValueError: as `read_line`.
    """
    try:
        return _LINES.validate_python(value)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    """The first of what is wrong, on one line."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(str(part) for part in first["loc"][1:] or first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    what = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"{where}: {what}{more}" if where else f"{what}{more}"
