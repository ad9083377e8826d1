"""What the suites for all latency databases have in common. A subclass overrides the fixture `url`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iosfarm.db import LatencyDatabase


class DatabaseFixtures:
    @pytest.fixture
    def url(self) -> str:
        """The URL of an empty database."""
        raise NotImplementedError

    @pytest.fixture
    def database(self, url: str) -> Iterator[LatencyDatabase]:
        with LatencyDatabase(url) as database:
            yield database
