"""A database of each test's own, and workers that the tests of a file share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import MARK

from iosfarm.db import LatencyDatabase
from iosfarm.farm.executors.process_executor import ProcessExecutor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "latency.db"


@pytest.fixture
def database(path: Path) -> Iterator[LatencyDatabase]:
    with LatencyDatabase(str(path), timeout=0.2) as database:
        yield database


@pytest.fixture(scope="module")
def mark() -> Iterator[str]:
    """All processes that are started from here on carry it."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    yield mark
    del os.environ[MARK]


@pytest.fixture(scope="module")
def process_executor(mark: str) -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    executor.close()
