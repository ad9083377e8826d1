"""Progress of a search on stderr: live lines for jobs and devices on a terminal, a plain line now and then in a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from iosfarm.farm.progress import DeviceProgress, JobProgress, Progress
    from iosfarm.farm.run_record import Saved

LOG_INTERVAL = 10.0
"""Seconds between two lines where nobody watches a terminal."""

MOST_LINES = 8
"""Jobs, and devices, that have lines of their own; of more, those that tell the most do."""


class ProgressDisplay:
    """A context manager; `update` and `finished` are what a search calls."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._logged = monotonic()
        self._message = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live("starting", console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._console.print("starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show how far the search is."""
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text("\n".join(screen(progress)), no_wrap=True, overflow="ellipsis"))
        elif self._worth_a_line(progress.message) or monotonic() - self._logged >= LOG_INTERVAL:
            self._logged = monotonic()
            self._console.print(line(progress), soft_wrap=True)
        self._message = progress.message

    def _worth_a_line(self, message: str) -> bool:
        """What is new. A wait says how long it has been, and is not new each time."""
        return message != "" and message.partition(" for ")[0] != self._message.partition(" for ")[0]

    def finished(self, saved: Saved) -> None:
        """Say that a job is done."""
        result = saved.result
        predicted = "" if result.measured else " (predicted)"
        speedup = f", {result.speedup:.2f}x over sequential{predicted}" if result.speedup else ""
        self._console.print(f"{result.job.name}: {result.chosen}{speedup}, {result.seconds:.0f} s", soft_wrap=True)

    def stopping(self) -> None:
        """Say that the wish to stop was heard."""
        text = "stopping after the stages under way; press Ctrl-C again to stop at once"
        self._console.print(text, soft_wrap=True)


def line(progress: Progress) -> str:
    """All of it in one line."""
    total = progress.total
    if not total("stages"):
        return progress.message or "starting"
    parts = [f"{total('measured')} measured now", f"{total('known')}/{total('stages')} stages known"]
    if progress.gap is not None:
        parts.append(f"gap {progress.gap:.1%}")
    if total("checked"):
        parts.append(f"{total('checked')} measured again")
    if total("failed"):
        parts.append(f"{total('failed')} given up")
    if progress.failures:
        parts.append(f"failures: {_counts(progress.failures)}")
    if progress.held:
        parts.append(f"{progress.held} measured by others")
    parts += [_duration(progress.seconds), f"{progress.finished}/{len(progress.jobs)} jobs"]
    parts.append(_devices(progress))
    if progress.message:
        parts.append(progress.message)
    return ", ".join(part for part in parts if part)


def screen(progress: Progress) -> list[str]:
    """A few lines: the whole, the jobs under way, the devices."""
    if not progress.total("stages"):
        return [progress.message or "starting"]
    lines = [line(progress)]
    jobs = [job for job in progress.jobs if job.state in ("searching", "checking")]
    if len(jobs) > 1:
        lines += [_job(job) for job in sorted(jobs, key=lambda job: -(job.gap or 0))[:MOST_LINES]]
        lines += _more(len(jobs), "jobs")
    if len(progress.devices) > 1:
        telling = sorted(progress.devices, key=lambda d: (d.state == "busy", not d.failures, d.name))
        lines += [_device(device) for device in telling[:MOST_LINES]]
        lines += _more(len(progress.devices), "devices")
    return lines


def _more(count: int, what: str) -> list[str]:
    return [f"  and {count - MOST_LINES} more {what}"] if count > MOST_LINES else []


def _job(job: JobProgress) -> str:
    gap = "" if job.gap is None else f", gap {job.gap:.1%}"
    failed = f", {job.failed} given up" if job.failed else ""
    return f"  {job.name}: {job.measured} measured, {job.found} found of {job.stages}{gap}{failed}, {job.state}"


def _device(device: DeviceProgress) -> str:
    failures = f", failures: {_counts(device.failures)}" if device.failures else ""
    return f"  {device.name}: {device.state}, {device.measured} measured, busy {device.busy:.0%}{failures}"


def _devices(progress: Progress) -> str:
    """`cpu: busy`, or of many how many do what."""
    if len(progress.devices) <= 2:
        return ", ".join(f"{device.name}: {device.state}" for device in progress.devices)
    states = Counter(device.state for device in progress.devices)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{len(progress.devices)} devices: {counts}, {progress.rate:.3g} stages/s, busy {progress.busy or 0:.0%}"


def _counts(failures: Mapping[str, int]) -> str:
    return " ".join(f"{kind} {count}" for kind, count in sorted(failures.items()))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
