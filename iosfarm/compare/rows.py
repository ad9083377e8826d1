"""What a comparison yields: a row for each framework, whatever became of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """What became of a framework."""

    OK = "ok"
    NOT_INSTALLED = "not installed"
    NOT_POSSIBLE = "not possible"
    """It cannot do this here: no GPU, an operator that it lacks."""
    WRONG = "wrong numbers"
    CRASHED = "crashed"
    HUNG = "hung"
    NOT_RUN = "not run"
    """The user stopped before it had its turns."""


@dataclass(frozen=True)
class Profile:
    """Where one execution's time goes, as the framework's own profiler tells.

    seconds: by class of work, `convolution` among them. kernels: what is launched or called in one execution. source:
    which profiler. Profiling itself takes time: the sum may be more than the latency.
    """

    source: str
    kernels: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def convolutions(self) -> float | None:
        """Share of the convolutions in what was profiled, None where nothing was timed."""
        total = sum(self.seconds.values())
        return self.seconds.get("convolution", 0.0) / total if total > 0 else None

    @property
    def other(self) -> float:
        """Seconds of what is no convolution."""
        return sum(self.seconds.values()) - self.seconds.get("convolution", 0.0)

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {"source": self.source, "kernels": self.kernels, "seconds": dict(self.seconds)}


@dataclass(frozen=True)
class Row:
    """One framework on one network.

    samples: seconds of each timed execution. error: largest difference to float64, relative to the largest number.
    reason: why there is no latency. note: what else has to be known. preparing: seconds from start to first result.
    """

    framework: str
    title: str
    status: Status
    reason: str = ""
    note: str = ""
    version: str = ""
    samples: tuple[float, ...] = ()
    error: float | None = None
    preparing: float | None = None
    profile: Profile | None = None

    @property
    def seconds(self) -> float | None:
        """Median of one execution; None unless it ran and its numbers are right."""
        return statistics.median(self.samples) if self.samples and self.status is Status.OK else None

    @property
    def mad(self) -> float | None:
        """Median absolute deviation of the samples, in seconds."""
        middle = self.seconds
        return None if middle is None else statistics.median(abs(sample - middle) for sample in self.samples)

    def document(self) -> dict[str, object]:
        """As JSON; `read` takes it back."""
        return {
            "framework": self.framework,
            "title": self.title,
            "status": str(self.status),
            "reason": self.reason,
            "note": self.note,
            "version": self.version,
            "seconds": self.seconds,
            "mad": self.mad,
            "error": self.error,
            "preparing": self.preparing,
            "samples": list(self.samples),
            "profile": None if self.profile is None else self.profile.document(),
        }

    @classmethod
    def read(cls, document: Mapping[str, object]) -> Row:
        """A row of its JSON.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        known = {
            name: document[name] for name in ("framework", "title", "reason", "note", "version", "error", "preparing")
        }
        raw = document["profile"]
        samples = document["samples"]
        if not isinstance(samples, list):
            raise TypeError("samples")
        return cls(
            **known,  # type: ignore[arg-type]
            status=Status(str(document["status"])),
            samples=tuple(float(sample) for sample in samples),
            profile=Profile(**raw) if isinstance(raw, dict) else None,
        )
