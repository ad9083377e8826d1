"""Comparisons that were made before with the same versions, kept in a folder beside the latency database.

A comparison is remembered as a whole: its rows were timed in turns, and single ones of another day would not compare.
A crash belongs to the versions, and is remembered; one that was interrupted, or in which a framework hung (as it may
on a machine that is busy), is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.compare.registry import chosen
from iosfarm.compare.rows import Row, Status
from iosfarm.compare.runner import run
from iosfarm.compare.settings import Settings, Watch
from iosfarm.ir.device import canonical_json

if TYPE_CHECKING:
    from iosfarm.farm.executors.executor import DeviceInfo
    from iosfarm.ir.graph import Graph
    from iosfarm.ir.schedule import Schedule

FOLDER = "compared"
_PASSING = (Status.HUNG, Status.NOT_RUN)


def remembered_run(
    graph: Graph,
    frameworks: Sequence[str],
    info: DeviceInfo,
    *,
    schedule: Schedule | None = None,
    database: str | None = None,
    settings: Settings | None = None,
    watch: Watch | None = None,
) -> list[Row]:
    """As `iosfarm.compare.run`, but from the folder where it holds the same comparison.

    Raises:
        OutputError: the folder cannot be written. UsageError.
    """
    from iosfarm.farm.output_files import write_whole

    chosen_settings = settings or Settings()
    path = _folder(database) / f"{_key(graph, frameworks, info, schedule, chosen_settings)}.json"
    known = _read(path)
    if known is not None:
        return known
    rows = run(
        graph, frameworks, info.spec, schedule=schedule, database=database, settings=chosen_settings, watch=watch
    )
    if not any(row.status in _PASSING for row in rows) and not (watch and watch.stop()):
        _make(path.parent)
        write_whole(json.dumps([row.document() for row in rows]), path, what="the comparison")
    return rows


def _make(folder: Path) -> None:
    from iosfarm.farm.output_files import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder: {error.strerror or error}", where=str(folder)) from error


def _folder(database: str | None) -> Path:
    from iosfarm.db.connection.location import default_path, locate

    return (locate(database).path or default_path()).parent / FOLDER


def _key(
    graph: Graph, frameworks: Sequence[str], info: DeviceInfo, schedule: Schedule | None, settings: Settings
) -> str:
    """Everything that a comparison depends on, as a name."""
    homes = packages_distributions()
    packages = {item.package: homes.get(item.package, []) for item in chosen(frameworks)}
    versions = {name: sorted({f"{home} {version(home)}" for home in found}) for name, found in packages.items()}
    facts = {
        "graph": graph.content_hash,
        "frameworks": list(frameworks),
        "versions": versions,
        "iosfarm": version("iosfarm"),
        "device": info.device.model,
        "environment": dict(info.environment.hard),
        "schedule": [[s.strategy, [list(g) for g in s.groups]] for s in schedule.stages] if schedule else None,
        "settings": [settings.seconds, settings.rounds, settings.trials, settings.seed, dict(settings.pythons)],
    }
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()[:32]


def _read(path: Path) -> list[Row] | None:
    """Rows of an earlier comparison; None where there is none, or of another version of iosfarm."""
    try:
        documents = json.loads(path.read_text(encoding="utf-8"))
        return [Row.read(document) for document in documents] if isinstance(documents, list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
