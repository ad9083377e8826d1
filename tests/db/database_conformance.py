"""What every latency database does, whatever it is kept in. A subclass overrides the fixture `url`.

(Not called `conformance`: test folders are no packages, and the runtimes' suite has that name.)
"""

from __future__ import annotations

import pytest
from database_examples import CPU, ENVIRONMENT, ok, stage
from measurement_conformance import MeasurementConformance
from plan_conformance import PlanConformance
from query_conformance import QueryConformance
from search_conformance import SearchConformance
from sharing_conformance import SharingConformance

from iosfarm.db import DatabaseError, LatencyDatabase


class LatencyDatabaseConformance(
    MeasurementConformance, QueryConformance, SearchConformance, SharingConformance, PlanConformance
):
    """All of it, and what handles do."""

    def test_read_only_handle_reads(self, database: LatencyDatabase, url: str) -> None:
        s = stage(1)
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        with LatencyDatabase(url, readonly=True) as reader:
            assert list(reader.lookup([s.key], CPU, ENVIRONMENT)) == [s.key]
            with pytest.raises(DatabaseError, match="opened read-only"):
                reader.record([(s, ok(s))], CPU, ENVIRONMENT)
            with pytest.raises(DatabaseError, match="opened read-only"):
                reader.migrate()

    def test_closed_handle_says_so(self, database: LatencyDatabase) -> None:
        database.close()
        database.close()
        with pytest.raises(DatabaseError, match="this handle is closed"):
            database.stats()
