"""A figure's or table's result: JSON for machines, columns and rows for a table, and what a plot needs besides."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from iosfarm.farm.executors.executor import DeviceInfo
from iosfarm.ir.errors import UsageError
from iosfarm.reproduce.paper import SOURCE

FORMAT = "iosfarm-reproduction"

Scalar = bool | int | float | str | None


class Kind(StrEnum):
    """What a column holds, and so how it is shown. Seconds are shown as milliseconds."""

    TEXT = "text"
    NUMBER = "number"
    SECONDS = "seconds"
    RATIO = "ratio"
    SHARE = "share"


class Status(StrEnum):
    """How far a result came."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    NOT_POSSIBLE = "not possible"


class Column(BaseModel):
    """key: in the rows. heading: what a table calls it. paper: figures of the paper's, not ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    heading: str
    kind: Kind = Kind.NUMBER
    paper: bool = False


class DeviceFacts(BaseModel):
    """What the latencies are of. simulated: by an analytic model, be it that its answers are replayed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: str
    model: str
    simulated: bool
    environment: dict[str, Scalar]

    @classmethod
    def of(cls, info: DeviceInfo) -> DeviceFacts:
        """From what a worker says of its device."""
        return cls(
            spec=info.spec,
            model=info.device.model,
            simulated=info.device.simulated or str(info.device.properties.get("replayed", "")).startswith("sim:"),
            environment={**info.environment.soft, **info.environment.hard},
        )


class Result(BaseModel):
    """The whole document. data: what a plot needs that no row holds. seconds: that it took to make."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["iosfarm-reproduction"] = "iosfarm-reproduction"
    version: Literal[1] = 1
    figure: str
    title: str
    source: str = SOURCE
    iosfarm: str
    created: datetime
    device: DeviceFacts | None = Field(description="null: it does not depend on a device")
    status: Status
    reason: str = Field(default="", description="why it is partial, or not possible")
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Scalar], ...]
    notes: tuple[str, ...] = ()
    data: dict[str, Any] = {}
    seconds: float = Field(ge=0)

    @property
    def simulated(self) -> bool:
        """Whether an analytic model said so and nothing was measured."""
        return self.device is not None and self.device.simulated

    @property
    def replayed(self) -> bool:
        """Whether measurements come from a recording."""
        return self.device is not None and self.device.spec.startswith("replay:")

    @property
    def origin(self) -> str:
        """Where the latencies come from."""
        return "simulated" if self.simulated else "recorded" if self.replayed else "measured"

    def shown(self) -> tuple[Column, ...]:
        """The columns for which there is anything to show."""
        return tuple(c for c in self.columns if any(row.get(c.key) is not None for row in self.rows)) or self.columns


@dataclass
class Draft:
    """A result while it is made: what is in it when it is interrupted is the partial result."""

    columns: Sequence[Column]
    rows: list[dict[str, Scalar]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def add(self, **values: Scalar) -> None:
        """A row; keys are those of the columns."""
        unknown = values.keys() - {column.key for column in self.columns}
        if unknown:
            raise ValueError(f"no column for {', '.join(sorted(unknown))}")
        self.rows.append({column.key: values.get(column.key) for column in self.columns})

    @property
    def empty(self) -> bool:
        """Whether there is nothing of ours in it: no row, or only the paper's latencies."""
        ours = [column.key for column in self.columns if column.kind is Kind.SECONDS and not column.paper]
        return not self.rows or (bool(ours) and all(row[key] is None for row in self.rows for key in ours))

    def note(self, text: str) -> None:
        """A remark under the table, once."""
        if text not in self.notes:
            self.notes.append(text)

    def finish(
        self, figure: str, title: str, device: DeviceFacts | None, seconds: float, status: Status, reason: str = ""
    ) -> Result:
        """The document."""
        return Result(
            figure=figure,
            title=title,
            iosfarm=version("iosfarm"),
            created=datetime.now(UTC),
            device=device,
            status=status,
            reason=reason,
            columns=tuple(self.columns),
            rows=tuple(self.rows),
            notes=tuple(self.notes),
            data=self.data,
            seconds=seconds,
        )


def geometric_mean(values: Sequence[float | None]) -> float | None:
    """Of positive numbers; None where there are none, or one is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return math.exp(math.fsum(math.log(value) for value in known) / len(known))


def ratio(reference: float | None, value: float | None) -> float | None:
    """reference / value, None where one is missing."""
    return reference / value if reference and value else None


def cell(column: Column, value: Scalar) -> object:
    """A value as a table shows it; numbers stay numbers, so that they can be aligned."""
    if value is None or isinstance(value, str | bool):
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
    if column.kind is Kind.SECONDS:
        return float(value) * 1e3
    if column.kind is Kind.RATIO:
        return f"{value:.2f}x"
    if column.kind is Kind.SHARE:
        return f"{value:.1%}"
    return value


def heading(column: Column) -> str:
    """A column's heading with its unit."""
    return f"{column.heading} ms" if column.kind is Kind.SECONDS else column.heading


def read(path: Path) -> Result:
    """A result's file.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read this result: {reason}", where=str(path)) from None
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise UsageError("not a result of iosfarm reproduce", where=str(path))
    try:
        return Result.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{place}: {first['msg']}", where=str(path), hint="was the file edited?") from None
