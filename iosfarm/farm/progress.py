"""How far a search is: for a terminal, a log, metrics, and the run's row in the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from iosfarm.farm.dispatch.fleet import Fleet
from iosfarm.farm.dispatch.pool import Member, Pool
from iosfarm.farm.jobs.job_search import JobSearch


@dataclass(frozen=True)
class JobProgress:
    """One job's distinct stages. known: found in the database, or measured. checked: measured again. state: `waiting`
    (to be prepared), `searching`, `checking` (end to end), `done`.
    """

    name: str
    stages: int
    found: int
    measured: int
    checked: int
    failed: int
    gap: float | None
    state: str

    @property
    def known(self) -> int:
        """Stages with a latency."""
        return self.found + self.measured


@dataclass(frozen=True)
class DeviceProgress:
    """One device. state: `busy`, `idle`, `restarting` or `quarantined`. measured: stages. busy: share of the time since
    it joined. failures: by kind.
    """

    name: str
    state: str
    measured: int
    busy: float
    failures: Mapping[str, int]


@dataclass(frozen=True)
class Progress:
    """The state of a run. rate: stages measured each second. held: stages that other drivers are measuring."""

    jobs: Sequence[JobProgress] = ()
    devices: Sequence[DeviceProgress] = ()
    rate: float = 0.0
    held: int = 0
    seconds: float = 0.0
    message: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """Of all jobs: `stages`, `known`, `measured`, `found`, `checked` or `failed`."""
        return sum(getattr(job, name) for job in self.jobs)

    @property
    def gap(self) -> float | None:
        """The largest of the jobs that have one."""
        return max((job.gap for job in self.jobs if job.gap is not None), default=None)

    @property
    def finished(self) -> int:
        """Jobs that are done."""
        return sum(1 for job in self.jobs if job.state == "done")

    @property
    def busy(self) -> float | None:
        """Share of the time that devices were busy, None where there are none."""
        shares = [device.busy for device in self.devices if device.state != "quarantined"]
        return sum(shares) / len(shares) if shares else None


def job_progress(search: JobSearch, state: str) -> JobProgress:
    """Of a job that is prepared."""
    counts = search.counts()
    return JobProgress(
        search.job.name,
        counts.stages,
        counts.found,
        counts.measured,
        counts.checked,
        counts.failed,
        search.gap,
        state,
    )


def device_progress(fleet: Fleet, now: float) -> list[DeviceProgress]:
    """Of all devices, those that are no longer believed last."""
    devices = [_device(member, now, _state(member)) for _, member in fleet.members()]
    return devices + [_device(member, now, "quarantined") for member in fleet.quarantined.values()]


def _state(member: Member) -> str:
    if not member.up:
        return "restarting"
    return "busy" if member.flights else "idle"


def _device(member: Member, now: float, state: str) -> DeviceProgress:
    # What is under way counts as busy, or a device would seem idle until its first task ends.
    begun = member.flights[0].begun if member.flights else None
    seconds = member.seconds + (now - begun if begun is not None else 0.0)
    share = min(1.0, seconds / max(now - member.since, 1e-9))
    failures = {kind.value: count for kind, count in member.failures.items()}
    return DeviceProgress(member.name, state, member.measured, share, failures)


def held(pools: Sequence[Pool]) -> int:
    """Stages that other drivers are measuring."""
    return sum(len(pool.held) for pool in pools)


def failures(fleet: Fleet) -> Counter[str]:
    """Of all devices, by kind."""
    total: Counter[str] = Counter()
    for member in fleet.past_and_present():
        total.update({kind.value: count for kind, count in member.failures.items()})
    return total
