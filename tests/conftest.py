"""Fixtures for every test: no test reads or writes the user's own database, settings or environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postgres import PostgresServer

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data directory of the test's own, and the messages that a user without IOSFARM_DEBUG sees."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("IOSFARM_DB", raising=False)
    monkeypatch.delenv("IOSFARM_DEBUG", raising=False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for all tests. Where its binaries are missing, tests are skipped, but never in CI."""
    from postgres import PostgresServer, binaries

    folder = binaries()
    if folder is None:
        what = "PostgreSQL is not installed: no initdb and postgres on PATH or in /usr/lib/postgresql"
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    server = PostgresServer(folder)
    yield server
    server.close()


@pytest.fixture(scope="session")
def _shared_latency_database(postgres: PostgresServer) -> str:
    from iosfarm.db import LatencyDatabase

    postgres.execute("CREATE DATABASE latency")
    url = postgres.url("latency")
    LatencyDatabase(url).close()
    return url


@pytest.fixture
def postgres_url(postgres: PostgresServer, _shared_latency_database: str) -> str:
    """The URL of a latency database without a row in it. Tests share it, one after the other: its schema must stay."""
    postgres.empty("latency")
    return _shared_latency_database
