"""What a section has found, kept on disk from row to row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Value = Any
"""What JSON can hold."""
Row = dict[str, Value]


class Rows:
    """Rows of one section. Each is on disk before the next one is begun."""

    def __init__(self, path: Path | None, report: Callable[[str], None] = lambda _: None) -> None:
        self.rows: list[Row] = []
        self._path = path
        self._report = report

    def add(self, **row: Value) -> Row:
        """Keep a row."""
        self.rows.append(row)
        self._report("  ".join(f"{name} {_short(value)}" for name, value in row.items()))
        if self._path is not None:
            write_json(self._path, self.rows)
        return row


def write_json(path: Path, value: object) -> None:
    """Write a document whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_rows(path: Path) -> list[Row]:
    """The rows of a section, none where it has written none."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return rows if isinstance(rows, list) else []


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
