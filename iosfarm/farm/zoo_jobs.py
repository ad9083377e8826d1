"""From a `zoo.yaml` and the command line's overrides to jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from iosfarm.farm.api import parsed_budget, resolve_device
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.parts import MAX_PART_SIZE
from iosfarm.search.space import SpaceSettings
from iosfarm.zoo.weights import load_weights
from iosfarm.zoo.zoo_file import ZooJob, load_zoo


@dataclass(frozen=True)
class Overrides:
    """What the command line says instead of the file; None: what the file says. budget: as `parse_budget` reads it."""

    device: str | None = None
    method: str | None = None
    gap: float | None = None
    certificate: str | None = None
    confidence: float | None = None
    budget: str | None = None
    max_group_size: int | None = None
    max_groups: int | None = None


def zoo_jobs(path: Path, overrides: Overrides | None = None) -> list[Job]:
    """The jobs of a zoo.

    Raises:
        UsageError: the file, a model, its weights or a setting cannot be.
    """
    overrides = overrides or Overrides()
    budget = None if overrides.budget is None else parsed_budget(overrides.budget, "--budget")
    jobs: dict[str, Job] = {}
    for item in load_zoo(path).jobs():
        job = _job(item, overrides, budget)
        # With --device, a model that the zoo lists for several devices is one job.
        jobs.setdefault(job.name, job)
    return list(jobs.values())


def _job(item: ZooJob, given: Overrides, budget: Budget | None) -> Job:
    graph = item.load().bind(batch=item.batch, dtype=item.dtype)
    chosen, space, method = item.settings, SpaceSettings(), Method()
    space = SpaceSettings(
        _first(given.max_group_size, chosen.max_group_size, space.max_group_size),
        _first(given.max_groups, chosen.max_groups, space.max_groups),
        chosen.strategies or space.strategies,
        chosen.endings or space.endings,
    )
    settings = SearchSettings(
        space,
        Method(
            _given(given.method, chosen.method, method.name),
            _given(given.gap, chosen.gap, method.gap),
            _given(given.certificate, chosen.certificate, method.certificate),
            _given(given.confidence, chosen.confidence, method.confidence),
        ),
        chosen.max_part_size or MAX_PART_SIZE,
        _given(budget, chosen.budget, Budget()),
    )
    network = item.model.network
    weights = network.weights if item.weights is None else load_weights(graph, item.weights)
    device = resolve_device(given.device or item.device)
    return Job(item.label, graph, device, settings, weights, item.seed, network.notices)


_Value = TypeVar("_Value")


def _given(override: _Value | None, chosen: _Value | None, default: _Value) -> _Value:
    return next(value for value in (override, chosen, default) if value is not None)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
