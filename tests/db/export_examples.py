"""An export of three measurements, and its lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from database_examples import CPU, ENVIRONMENT, bad, ok, stage

from iosfarm.db import LatencyDatabase


def export_some(path: Path) -> Path:
    """Three measurements of two stages."""
    with LatencyDatabase("sqlite://") as database:
        items = [(stage(1), ok(stage(1))), (stage(1), ok(stage(1), 2.0)), (stage(2), bad(stage(2)))]
        database.record(items, CPU, ENVIRONMENT)
        database.export(path)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, content: list[Any]) -> None:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in content))
