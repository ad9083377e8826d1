"""What happens in a farm, as it happens: for a log, for metrics, for whoever watches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from iosfarm.ir.errors import IosfarmError


@dataclass(frozen=True)
class Event:
    """One thing that happened. name: `task_done`, `device_lost`, … fields: what JSON can hold; times in seconds."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Sink = Callable[[Event], None]


def to_all(sinks: Iterable[Sink]) -> Sink:
    """One sink for several."""
    chosen = list(sinks)

    def emit(event: Event) -> None:
        for sink in chosen:
            sink(event)

    return emit


class LogError(IosfarmError):
    """The log cannot be written."""


class EventLog:
    """A file of JSON lines, one an event: `time` (UTC), `event`, and its fields. Lines are added to a file that is
    there, each at once, so that the log of a killed search is whole. A context manager.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            what = f"the log cannot be written: {error.strerror or error}"
            raise LogError(what, where=str(path), hint="choose another file with --log") from error

    def __call__(self, event: Event) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event.name, **event.fields}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            # What is measured is worth more than the log of it, but a log with a hole is none.
            what = f"the log cannot be written: {error.strerror or error}"
            raise LogError(what, where=str(self._path), hint="free some space; what was measured is kept") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
