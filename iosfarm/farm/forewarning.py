"""What is said of a search before it begins: a network with little to win need not be waited for to be known as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from iosfarm.farm.jobs.job import Job
from iosfarm.search.beside import little_to_win
from iosfarm.search.budget import Budget
from iosfarm.search.parts import cut

ENOUGH = 60.0
"""Seconds for a network with little to win, where its user sets no limit and does not ask for all stages."""


def forewarned(jobs: Sequence[Job], tell: Callable[[str], None]) -> list[Job]:
    """The jobs, those of networks with little to win with a limit if they have none. tell: called with a line for each
    such network, at once.
    """
    said: set[str] = set()
    limited = []
    for job in jobs:
        note = little_to_win(cut(job.graph, max_part_size=job.settings.max_part_size))
        if note and job.settings.budget == Budget() and job.settings.method.name == "certified":
            # Jobs take turns on the devices, and time is counted for all of them together.
            job = replace(job, settings=replace(job.settings, budget=Budget(seconds=ENOUGH * len(jobs))))
            note = f"{note}; searched for {ENOUGH:g} s at most, unless a budget says otherwise"
        if note and f"{job.label}: {note}" not in said:
            said.add(f"{job.label}: {note}")
            tell(f"{job.label}: {note}")
        limited.append(job)
    return limited
