"""Progress of a search on stderr: a live line on a terminal, a plain line now and then in a log."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from iosfarm.farm.api import Saved
    from iosfarm.farm.driver import Progress

LOG_INTERVAL = 10.0
"""Seconds between two lines where nobody watches a terminal."""


class ProgressDisplay:
    """A context manager; `update` and `finished` are what a search calls."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._started = monotonic()
        self._logged = monotonic()
        self._message = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        else:
            self._console.print("starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self, progress: Progress) -> None:
        """Show how far the search is."""
        line = self._line(progress)
        if self._status is not None:
            self._status.update(line)
        elif progress.message not in ("", self._message) or monotonic() - self._logged >= LOG_INTERVAL:
            self._logged = monotonic()
            self._console.print(line, soft_wrap=True)
        self._message = progress.message

    def finished(self, saved: Saved) -> None:
        """Say that a job is done."""
        result = saved.result
        predicted = "" if result.measured else " (predicted)"
        speedup = f", {result.speedup:.2f}x over sequential{predicted}" if result.speedup else ""
        self._console.print(f"{result.job.name}: {result.chosen}{speedup}, {result.seconds:.0f} s", soft_wrap=True)

    def stopping(self) -> None:
        """Say that the wish to stop was heard."""
        line = "stopping after the stages under way; press Ctrl-C again to stop at once"
        self._console.print(line, soft_wrap=True)

    def _line(self, progress: Progress) -> str:
        if not progress.stages:
            return progress.message or "starting"
        parts = [f"{progress.measured} measured now", f"{progress.known}/{progress.stages} stages known"]
        if progress.gap is not None:
            parts.append(f"gap {progress.gap:.1%}")
        if progress.checked:
            parts.append(f"{progress.checked} measured again")
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        parts.append(f"{_duration(monotonic() - self._started)}")
        parts.append(f"{progress.finished_jobs}/{progress.jobs} jobs")
        parts += [f"{spec}: {'busy' if waiting else 'idle'}" for spec, waiting in progress.busy.items()]
        if progress.message:
            parts.append(progress.message)
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
