"""What every section of the GPU check gets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iosfarm.farm.gpu_check.rows import Rows


@dataclass(frozen=True)
class Context:
    """device: spec of what is checked. folder: where results go. database: URL of the measurements. deadline: when, by
    `time.monotonic`, the section has to be done; it is killed a little later. models: networks to search.
    """

    device: str
    folder: Path
    database: str
    deadline: float
    rows: Rows
    models: tuple[str, ...]

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def spec(self, **options: str) -> str:
        """The device's spec with other options."""
        place, _, query = self.device.partition("?")
        if not place.startswith("cuda"):
            return self.device
        given = dict(part.split("=", 1) for part in query.split("&") if part)
        chosen = {**given, **options}
        return place + ("?" + "&".join(f"{k}={v}" for k, v in chosen.items()) if chosen else "")


@dataclass(frozen=True)
class Section:
    """name: of the section; a colon separates what it is about. seconds: that it may take. run: in a process of its
    own. gpu: whether it needs a real one.
    """

    name: str
    seconds: float
    run: Callable[[Context], None]
    gpu: bool = False
