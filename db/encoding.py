"""A measurement as the columns of its row, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, NamedTuple

from iosfarm.db.errors import DatabaseError
from iosfarm.db.identity import measurement_uid
from iosfarm.ir.device import Device, Environment, canonical_json
from iosfarm.ir.measurement import Measurement, Status, percentile

Place = tuple[str, str, str]
"""Where a measurement was made: the device's key, its instance as JSON, the environment's key."""


def place_of(device: Device, environment: Environment) -> Place:
    """The place of measurements on a device in an environment."""
    return device.key, canonical_json(dict(device.instance)), environment.key


class Answer(NamedTuple):
    """What a look-up reads of a measurement; statistics follow from the samples. measured_at: of SQLite its text."""

    id: int
    environment_id: int
    n: int
    status: str
    reason: str
    samples: str
    unroll: int
    rounds: int
    worker: str
    attempt: int
    measured_at: datetime | str
    conditions: str


_read_json = json.JSONDecoder().raw_decode  # `json.loads` takes longer to begin than such texts take


def _json(text: str) -> Any:
    value, end = _read_json(text)
    if end < len(text):
        raise ValueError(f"{text[end:][:20]!r} after its JSON")
    return value


def decode(row: Answer, key: str, name: str) -> Measurement:
    """The measurement of a row of `measurement`, of the stage with this key.

    Raises:
        DatabaseError: the row was not written by iosfarm, or was damaged.
    """
    at = row.measured_at
    try:
        return Measurement(
            stage_key=key,
            status=Status(row.status),
            samples=tuple(_json(row.samples)),
            unroll=row.unroll,
            rounds=row.rounds,
            reason=row.reason,
            worker=row.worker,
            attempt=row.attempt,
            measured_at=datetime.fromisoformat(at).replace(tzinfo=UTC) if isinstance(at, str) else at,
            conditions=dict(_json(row.conditions)),
        )
    except (TypeError, ValueError) as error:
        raise DatabaseError(f"measurement {row.id} is damaged: {error}", where=name) from error


class Columns(NamedTuple):
    """The columns of a measurement that do not refer to other rows, in the order in which they are written."""

    uid: str
    status: str
    reason: str
    median: float | None
    mad: float | None
    min: float | None
    p90: float | None
    n: int
    samples: str
    unroll: int
    rounds: int
    worker: str
    attempt: int
    measured_at: datetime
    conditions: str


def encode(measurement: Measurement, place: Place) -> Columns:
    """What is stored of a measurement.

    Raises:
        ValueError: a sample or condition is not finite, or the time has no time zone.
    """
    if measurement.measured_at.tzinfo is None:
        raise ValueError(f"stage {measurement.stage_key}: measured_at has no time zone")
    ordered = sorted(map(float, measurement.samples))
    if not all(map(isfinite, ordered)):
        raise ValueError(f"stage {measurement.stage_key}: a sample is not finite")
    try:
        conditions = canonical_json(dict(measurement.conditions))
    except ValueError as error:
        raise ValueError(f"stage {measurement.stage_key}: {error}") from error
    samples = f"[{','.join(map(repr, map(float, measurement.samples)))}]"  # as JSON has it
    worker, status = storable(measurement.worker), measurement.status.value
    at, attempt = measurement.measured_at, measurement.attempt
    uid = measurement_uid(measurement.stage_key, *place, at, worker, attempt, status, samples, conditions)
    reason, (median, mad, least, p90) = storable(measurement.reason), _statistics(ordered)
    counts = len(ordered), samples, measurement.unroll, measurement.rounds
    return Columns(uid, status, reason, median, mad, least, p90, *counts, worker, attempt, at, conditions)


def _statistics(ordered: Sequence[float]) -> tuple[float | None, float | None, float | None, float | None]:
    """Median, median absolute deviation, least and 90th percentile: what `Measurement` says, sorted once for all."""
    if not ordered:
        return None, None, None, None
    median = _middle(ordered)
    mad = _middle(sorted([abs(sample - median) for sample in ordered]))
    return median, mad, ordered[0], percentile(ordered, 0.9)


def _middle(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def storable(text: str) -> str:
    """Text as both databases take it: PostgreSQL refuses NUL, and UTF-8 lone surrogates. Last words may hold either."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
