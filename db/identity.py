"""What makes a measurement the same one wherever it is kept: recorded twice or imported again, it is stored once.

Databases and exported files hold identities: how they are made never changes.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

LENGTH = 32
"""Characters of an identity."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def measurement_uid(
    stage_key: str,
    device_key: str,
    device_instance: str,
    environment_key: str,
    measured_at: datetime,
    worker: str,
    attempt: int,
    status: str,
    samples: str,
    conditions: str,
) -> str:
    """32 hex digits: when it was measured (14, microseconds since 1970) and a SHA-256 of all that was measured (18).

    Of the status counts only whether the infrastructure failed, and how: a measurement that is quarantined later
    remains the same one. The texts are those of the database's columns. Time comes first so that rows which are
    written together lie together in the index.
    """
    failure = status if status in ("failed", "timeout") else ""
    offset = measured_at - _EPOCH
    microseconds = (offset.days * 86_400 + offset.seconds) * 1_000_000 + offset.microseconds
    facts = (
        stage_key,
        device_key,
        device_instance,
        environment_key,
        worker,
        str(attempt),
        failure,
        samples,
        conditions,
    )
    digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    return f"{max(microseconds, 0):014x}{digest}"[:LENGTH]
