"""What the latency database keeps of a stage beside its measurements: columns to query by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OperatorSummary:
    """One operator of a stage. Fields that the operator does not have are None; sizes are of its first input."""

    kind: str
    in_channels: int | None = None
    out_channels: int | None = None
    height: int | None = None
    width: int | None = None
    kernel_height: int | None = None
    kernel_width: int | None = None
    stride: int | None = None


@dataclass(frozen=True)
class StageSummary:
    """A stage as the database stores it. `canonical` is the JSON text from which a worker can rebuild the stage."""

    key: str
    key_version: int
    canonical: str
    strategy: str
    dtype: str
    layout: str
    batch: int
    groups: int
    units: int
    flops: int
    bytes_moved: int
    operators: tuple[OperatorSummary, ...]
