"""Plans: which of several ways to compute the same was the fastest when a runtime timed them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from iosfarm.ir.device import Fact, canonical_json

LONGEST_KEY = 2000
"""Bytes of a plan's key in UTF-8: databases index it."""


def plan_key(what: object) -> str:
    """A plan's key: canonical JSON of what is computed, or the SHA-256 of that where it is too long."""
    text = canonical_json(what)
    return text if len(text) <= LONGEST_KEY else hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class PlanScope:
    """Where a plan is the fastest: on a GPU of this model, with these facts (its processors, who computes, versions).
    Runtimes with one `key` share plans.
    """

    model: str
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Canonical JSON."""
        return canonical_json({"model": self.model, "facts": dict(self.facts)})

    @property
    def key(self) -> str:
        """SHA-256 (hex) of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """key: what is computed, in the runtime's words. name: of the way that was the fastest. seconds: what it took.

    It is a hint: one that is wrong costs time, never a wrong number.

    Raises:
        ValueError: a key or name that is empty or cannot be stored, or seconds that are not a time.
    """

    key: str
    name: str
    seconds: float

    def __post_init__(self) -> None:
        if not 0 < len(self.key.encode()) <= LONGEST_KEY or not self.name:
            raise ValueError("a plan without a key or name, or with a key that is too long")
        if b"\0" in (self.key + self.name).encode():
            raise ValueError("a plan with a NUL character")
        if not 0 < self.seconds < sys.float_info.max:
            raise ValueError(f"a plan that takes {self.seconds} seconds")
