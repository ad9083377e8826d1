"""Schedules that were measured end to end before: the same search again need not run the network again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from pydantic import ValidationError

from iosfarm.db import LatencyDatabase, ScheduleRow
from iosfarm.db.query.transfer import Transferred
from iosfarm.farm.executors.executor import DeviceInfo
from iosfarm.farm.jobs.job import Job
from iosfarm.farm.jobs.refining import Refined
from iosfarm.farm.jobs.verdict import DISTURBED, overrun
from iosfarm.farm.schedules.schedule_file import settings_entry
from iosfarm.farm.schedules.schedule_format import LatencyEntry, ScheduleFile
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.schedule import Certificate, Schedule
from iosfarm.search.refine import Won
from iosfarm.workers.evaluating import Evaluation, schedule_key, tolerance

PAGE, MOST = 3, 60
"""Schedules that are read at once, and that are looked at: searches with other settings, seeds or environments may have
come in between.
"""


def remembered(
    database: LatencyDatabase, job: Job, device: DeviceInfo, schedules: Mapping[str, Schedule]
) -> Evaluation | None:
    """The newest evaluation of just these schedules in this environment, None where there is none to rely on.

    With weights of the user's own there is none: the numbers depend on them.
    """
    if job.weights is not None:
        return None
    for content in _earlier(database, job, device):
        if evaluation := _evaluation(content.latencies, schedules, job, device):
            return evaluation
    return None


def remembered_refinement(
    database: LatencyDatabase, job: Job, device: DeviceInfo, optimised: Schedule
) -> Refined | None:
    """What refining this same schedule has won in this environment, None where that was not tried to the end."""
    key = schedule_key(optimised)
    for content in _earlier(database, job, device):
        entry = content.latencies.get("optimised")
        if entry is None or entry.key != key or entry.measured is None or content.interrupted:
            continue
        if content.chosen != "refined":
            return Refined(None, ())
        won = tuple(Won(item.description, item.before, item.after) for item in content.won)
        return Refined(replace(content.schedule(), method="refined"), won)
    return None


def _earlier(database: LatencyDatabase, job: Job, device: DeviceInfo) -> Iterator[ScheduleFile]:
    """The last schedules of a job in this environment, the newest first."""
    for row in islice(_schedules(database, job, device), MOST):
        try:
            content = ScheduleFile.model_validate_json(row.document)
        except ValidationError:
            continue  # written by another version
        same_place = content.device.environment == dict(device.environment.hard) and content.settings.seed == job.seed
        if same_place:
            yield content


def _schedules(database: LatencyDatabase, job: Job, device: DeviceInfo) -> Iterator[ScheduleRow]:
    """Of the job's graph on such devices, a few at a time: most often the newest is what is looked for."""
    before: int | None = None
    while rows := database.schedules(
        graph_hash=job.graph.content_hash,
        batch=job.graph.batch,
        dtype=job.graph.dtype,
        device=device.device,
        simulated=device.device.simulated,
        before=before,
        limit=PAGE,
    ):
        yield from rows
        before = rows[-1].id


def _evaluation(
    entries: Mapping[str, LatencyEntry], schedules: Mapping[str, Schedule], job: Job, device: DeviceInfo
) -> Evaluation | None:
    latencies = {}
    errors = {}
    for name, schedule in schedules.items():
        entry = entries.get(name)
        if entry is None or entry.key != schedule_key(schedule) or not entry.samples:
            return None
        if entry.relative_error is None and not device.device.simulated:
            return None
        limit = tolerance(job.graph.dtype, device.environment)
        if entry.relative_error is not None and entry.relative_error > limit:
            return None  # whatever was wrong may be mended
        latencies[name] = Measurement(entry.key, Status.OK, tuple(entry.samples), rounds=len(entry.samples))
        errors[name] = entry.relative_error
    evaluation = Evaluation(latencies, errors)
    over = overrun(schedules, evaluation) if "sequential" in schedules else None
    return evaluation if over is not None and over <= DISTURBED else None


class JobMemory:
    """What one job may ask the database while it is refined, see `memory.Memory`."""

    def __init__(self, database: LatencyDatabase, job: Job, device: DeviceInfo) -> None:
        self._database = database
        self._job = job
        self._device = device

    def recall(self, keys: Sequence[str]) -> list[tuple[str, Measurement, int]]:
        """Usable measurements of stages, by key, with their ids."""
        found = self._database.lookup(keys, self._device.device, self._device.environment)
        return [(key, recorded.measurement, recorded.id) for key, recorded in found.items()]

    def finished(self) -> Certificate | None:
        """The certificate of this same search, if it has come to its end before."""
        settings = settings_entry(self._job)
        for content in _earlier(self._database, self._job, self._device):
            if content.settings == settings and not content.interrupted and content.certificate is not None:
                return content.certificate.value()
        return None

    def refined(self, optimised: Schedule) -> Refined | None:
        """What refining a schedule has won before."""
        return remembered_refinement(self._database, self._job, self._device, optimised)

    def comparable(self, keys: Sequence[str]) -> bool:
        """Whether `transferred` has answers once these stages are known."""
        return self._database.comparable(keys, self._device.device, self._device.environment)

    def transferred(self, keys: Sequence[str]) -> Mapping[str, Transferred]:
        """See `LatencyDatabase.transferred`."""
        return self._database.transferred(keys, self._device.device, self._device.environment)
