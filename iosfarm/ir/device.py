"""What measures (`Device`) and what else decides a latency (`Environment`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Fact = str | int | float | bool


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. NaN and infinity are refused."""
    return _CANONICAL.encode(value)


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Device:
    """One kind of device, as far as latencies go: two devices with the same `key` share measurements.

    kind: `cpu`, `cuda` or `sim:NAME`. model: what the maker calls it. properties: everything else that
    identifies the model and can change a latency (cores used, instruction set, memory). instance: which one it is
    (host, index, serial number); it is recorded and does not take part in the key.
    """

    kind: str
    model: str
    properties: Mapping[str, Fact] = field(default_factory=dict)
    instance: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """True for what an analytic model says: never mixed with measurements."""
        return self.kind.startswith("sim:")

    @property
    def key(self) -> str:
        """SHA-256 (hex) of kind, model and properties."""
        return _digest({"kind": self.kind, "model": self.model, "properties": dict(self.properties)})


@dataclass(frozen=True)
class Environment:
    """What decides a latency besides stage and device.

    hard: a difference forbids reuse (runtime and provider with versions, precision, timing mode, cuDNN major.minor,
    CUDA major). soft: a difference is reused with a flag (driver, minor versions).
    """

    hard: Mapping[str, Fact]
    soft: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def hard_key(self) -> str:
        """SHA-256 (hex) of the hard fields: what a look-up must match."""
        return _digest(dict(self.hard))

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all fields."""
        return _digest({"hard": dict(self.hard), "soft": dict(self.soft)})

    def soft_differences(self, other: Environment) -> dict[str, tuple[Fact | None, Fact | None]]:
        """The soft fields whose values differ: name -> (ours, theirs), None where a side lacks the field."""
        names = sorted(set(self.soft) | set(other.soft))
        pairs = {name: (self.soft.get(name), other.soft.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
