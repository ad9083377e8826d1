"""From a `zoo.yaml` and the command line's overrides to jobs."""

from __future__ import annotations

from pathlib import Path

from iosfarm.farm.api import resolve_device
from iosfarm.farm.jobs import Job, SearchSettings
from iosfarm.ir.errors import UsageError
from iosfarm.search.parts import MAX_PART_SIZE
from iosfarm.search.space import SpaceSettings
from iosfarm.zoo.weights import load_weights
from iosfarm.zoo.zoo_file import ZooJob, load_zoo
from iosfarm.zoo.zoo_settings import parse_budget


def zoo_jobs(
    path: Path,
    *,
    device: str | None = None,
    method: str | None = None,
    budget: str | None = None,
    max_group_size: int | None = None,
    max_groups: int | None = None,
) -> list[Job]:
    """The jobs of a zoo; what is not None overrides the file.

    Raises:
        UsageError: the file, a model, its weights or a setting cannot be.
    """
    try:
        seconds = None if budget is None else parse_budget(budget)
    except ValueError as error:
        raise UsageError(f"--budget {budget}: {error}") from None
    jobs: dict[str, Job] = {}
    for item in load_zoo(path).jobs():
        spec = resolve_device(device or item.device)
        job = _job(item, spec, method, seconds, max_group_size, max_groups)
        # With --device, a model that the zoo lists for several devices is one job.
        jobs.setdefault(job.name, job)
    return list(jobs.values())


def _job(
    item: ZooJob, device: str, method: str | None, budget: float | None, size: int | None, groups: int | None
) -> Job:
    graph = item.load().bind(batch=item.batch, dtype=item.dtype)
    chosen, default = item.settings, SpaceSettings()
    space = SpaceSettings(
        _first(size, chosen.max_group_size, default.max_group_size),
        _first(groups, chosen.max_groups, default.max_groups),
        chosen.strategies or default.strategies,
        chosen.endings or default.endings,
    )
    settings = SearchSettings(
        space,
        method or chosen.method or "exhaustive",
        chosen.max_part_size or MAX_PART_SIZE,
        chosen.budget if budget is None else budget,
    )
    weights = None if item.weights is None else load_weights(graph, item.weights)
    return Job(item.label, graph, device, settings, weights, item.seed)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
