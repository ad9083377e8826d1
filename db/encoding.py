"""A measurement as the columns of its row, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

from sqlalchemy import Row

from iosfarm.db.errors import DatabaseError
from iosfarm.db.identity import measurement_uid
from iosfarm.ir.device import Device, Environment, canonical_json
from iosfarm.ir.measurement import Measurement, Status, percentile

Place = tuple[str, str, str]
"""Where a measurement was made: the device's key, its instance as JSON, the environment's key."""


def place_of(device: Device, environment: Environment) -> Place:
    """The place of measurements on a device in an environment."""
    return device.key, canonical_json(dict(device.instance)), environment.key


def decode(row: Row[Any], key: str, name: str) -> Measurement:
    """The measurement of a row of `measurement`.

    Raises:
        DatabaseError: the row was not written by iosfarm, or was damaged.
    """
    try:
        return Measurement(
            stage_key=key,
            status=Status(row.status),
            samples=tuple(json.loads(row.samples)),
            unroll=row.unroll,
            rounds=row.rounds,
            reason=row.reason,
            worker=row.worker,
            attempt=row.attempt,
            measured_at=row.measured_at,
            conditions=json.loads(row.conditions),
        )
    except (TypeError, ValueError) as error:
        raise DatabaseError(f"measurement {row.id} is damaged: {error}", where=name) from error


def encode(measurement: Measurement, place: Place) -> dict[str, Any]:
    """The columns of a measurement that do not refer to other rows.

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
    worker = storable(measurement.worker)
    at, attempt = measurement.measured_at, measurement.attempt
    uid = measurement_uid(measurement.stage_key, *place, at, worker, attempt, measurement.status, samples, conditions)
    return {
        "uid": uid,
        "status": measurement.status.value,
        "reason": storable(measurement.reason),
        **_statistics(ordered),
        "n": len(ordered),
        "samples": samples,
        "unroll": measurement.unroll,
        "rounds": measurement.rounds,
        "worker": worker,
        "attempt": measurement.attempt,
        "measured_at": measurement.measured_at,
        "conditions": conditions,
    }


def _statistics(ordered: Sequence[float]) -> dict[str, float | None]:
    """What `Measurement` says of its samples, sorted once for all of it."""
    if not ordered:
        return dict.fromkeys(("median", "mad", "min", "p90"))
    median = _middle(ordered)
    mad = _middle(sorted([abs(sample - median) for sample in ordered]))
    return {"median": median, "mad": mad, "min": ordered[0], "p90": percentile(ordered, 0.9)}


def _middle(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def storable(text: str) -> str:
    """Text as both databases take it: PostgreSQL refuses NUL, and UTF-8 lone surrogates. Last words may hold either."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
