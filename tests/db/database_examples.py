"""Devices, stages and measurements for the tests of the database."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from iosfarm.db import LatencyDatabase, ScheduledStageRow
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.summary import OperatorSummary, StageSummary

CPU = Device("cpu", "Example CPU", {"cores": 8}, {"host": "a"})
SIM = Device("sim:v100", "Tesla V100", {"sm": 80})
ENVIRONMENT = Environment({"runtime": "cpu 1", "precision": "float32"}, {"driver": "1.0"})
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def conv(
    in_channels: int = 64, out_channels: int = 96, kernel: tuple[int, int] = (3, 3), size: int = 28
) -> OperatorSummary:
    return OperatorSummary("conv2d", in_channels, out_channels, size, size, *kernel, stride=1)


def stage(
    number: int,
    operators: tuple[OperatorSummary, ...] = (conv(),),
    *,
    strategy: str = "concurrent",
    dtype: str = "float32",
    layout: str = "nchw",
    batch: int = 1,
    flops: int = 3_000_000_000,  # more than 32 bits hold
) -> StageSummary:
    canonical = f'{{"number":{number}}}'
    return StageSummary(
        key=hashlib.sha256(canonical.encode()).hexdigest(),
        key_version=1,
        canonical=canonical,
        strategy=strategy,
        dtype=dtype,
        layout=layout,
        batch=batch,
        groups=1,
        units=len(operators),
        flops=flops,
        bytes_moved=5_000_000_000,
        operators=operators,
    )


def ok(of: StageSummary, *samples: float, minutes: float = 0) -> Measurement:
    return Measurement(
        of.key,
        Status.OK,
        samples or (1e-3, 1.5e-3, 0.1 + 0.2),
        unroll=4,
        rounds=3,
        worker="worker-1",
        attempt=2,
        measured_at=NOON + timedelta(minutes=minutes),
        conditions={"clock": 1.9e9, "throttled": False, "temperature": 55, "name": "é"},
    )


def bad(of: StageSummary, status: Status = Status.FAILED, *, minutes: float = 0) -> Measurement:
    return Measurement(of.key, status, reason="it broke", measured_at=NOON + timedelta(minutes=minutes))


def add_schedule(database: LatencyDatabase, model: str, stages: list[ScheduledStageRow], **k: Any) -> int:
    values: dict[str, Any] = {"search_id": None, "graph_hash": "abc", "batch": 1, "dtype": "float32", "device": CPU}
    values |= {"environment": ENVIRONMENT, "predicted": 2e-3, "measured": None, "lower_bound": 1e-3}
    return database.record_schedule(**{**values, "document": "{}", **k}, model=model, stages=stages)
