"""A database of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iosfarm.db import LatencyDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "latency.db"


@pytest.fixture
def database(path: Path) -> Iterator[LatencyDatabase]:
    with LatencyDatabase(str(path), timeout=0.2) as database:
        yield database
