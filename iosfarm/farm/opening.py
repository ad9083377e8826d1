"""A job's search as it begins, with all that the database knows; and what to say of one that ended too early."""

from __future__ import annotations

from collections.abc import Callable

from iosfarm.db import LatencyDatabase
from iosfarm.farm.dispatch.pool import Pool
from iosfarm.farm.jobs.job import Job
from iosfarm.farm.jobs.job_search import JobSearch
from iosfarm.farm.remembered import JobMemory
from iosfarm.search.beside import little_to_win
from iosfarm.search.solver import NoScheduleError


def open_search(database: LatencyDatabase, job: Job, pool: Pool, stop: Callable[[], bool] = lambda: False) -> JobSearch:
    """A search that knows what the database does. stop: asked while its stages are enumerated.

    Raises:
        EnumerationStoppedError: it said so.
    """
    info = pool.info
    search = JobSearch(job, info, pool.model, JobMemory(database, job, info), stop)
    recorded = database.lookup(search.keys(), info.device, info.environment)
    soft: set[str] = set()
    for key, found in recorded.items():
        pool.ids[key] = found.id
        search.tell(key, found.measurement, found.id, found=True)
        soft.update(found.soft_differences)
    if soft:
        search.notes.append(f"some latencies were measured with another {', '.join(sorted(soft))}")
    if note := little_to_win([problem.part for problem in search.search.problems]):
        search.notes.append(note)
    return search


def how_it_ended(search: JobSearch, interrupted: bool) -> list[str]:
    """What to say of one that ended before its gap was reached."""
    if interrupted and (search.expired or search.out_of_stages):
        return [f"the budget of {search.job.settings.budget} ended the search"]
    if search.noisy and (search.gap or 0.0) > search.job.settings.method.gap:
        return [f"the device is too unsteady to tell the optimum closer than the gap of {search.gap:.1%}"]
    return []


def too_small(search: JobSearch) -> NoScheduleError | None:
    """What to say where a job's budget ended before there was any schedule."""
    missing, budget = search.missing_units, search.job.settings.budget
    if not missing or not (search.expired or search.out_of_stages):
        return None
    units = f"{missing} single unit{'s' if missing > 1 else ''}"
    return NoScheduleError(
        f"no schedule yet: the budget of {budget} ended before {units} had been measured",
        where=search.job.name,
        hint="raise the budget; what was measured is kept",
    )


def too_late(job: Job) -> NoScheduleError:
    """What to say where a job's budget ended before it was known what there is to measure."""
    return NoScheduleError(
        f"no schedule yet: the budget of {job.settings.budget} ended while its stages were enumerated",
        where=job.name,
        hint="raise the budget; a budget of 0 takes the time, and answers from what is known",
    )
