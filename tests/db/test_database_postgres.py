"""The latency database in PostgreSQL: the common contract, and what only a server can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from batches_conformance import BatchesConformance
from database_conformance import LatencyDatabaseConformance
from database_examples import CPU, ENVIRONMENT, ok, stage
from exchange_conformance import ExchangeConformance
from product_conformance import ProductConformance
from sqlalchemy import select

from iosfarm.db import DatabaseError, LatencyDatabase, TransientDatabaseError, tables
from iosfarm.db.bulk import insert_rows
from iosfarm.db.rows import stage_ids

if TYPE_CHECKING:
    from postgres import PostgresServer


class TestPostgres(LatencyDatabaseConformance, ProductConformance, ExchangeConformance):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


class TestPostgresImports(BatchesConformance):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


def test_a_server_that_is_stopped_and_started_again(postgres: PostgresServer, postgres_url: str) -> None:
    s, t = stage(1), stage(2)
    with LatencyDatabase(postgres_url, timeout=1) as database:
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        postgres.stop()
        try:
            for use in (lambda: database.record([(t, ok(t))], CPU, ENVIRONMENT), database.stats):
                with pytest.raises(TransientDatabaseError, match="no connection: "):
                    use()
        finally:
            postgres.start()
        database.record([(t, ok(t))], CPU, ENVIRONMENT)
        assert len(database.query()) == 2


def test_a_connection_that_is_cut_in_a_transaction(postgres: PostgresServer, postgres_url: str) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    s = stage(1)
    with LatencyDatabase(postgres_url) as database:
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
        with pytest.raises(TransientDatabaseError), database._transaction(write=True) as connection:
            connection.exec_driver_sql(cut)
        assert len(database.query()) == 1


def test_locked_for_too_long(postgres_url: str) -> None:
    with LatencyDatabase(postgres_url) as database, LatencyDatabase(postgres_url, timeout=0.05) as other:
        with database._transaction(write=True) as connection:
            connection.exec_driver_sql("LOCK TABLE run")
            with pytest.raises(TransientDatabaseError, match="another process holds the database"):
                other.begin_run([], [])
        other.begin_run([], [])


def test_a_user_without_rights(postgres: PostgresServer, postgres_url: str) -> None:
    postgres.execute("DROP ROLE IF EXISTS guest")
    postgres.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(DatabaseError, match="this user may not do that; ask for the rights") as caught:
        LatencyDatabase(postgres_url.replace("farm@", "guest:secret@")).stats()
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, TransientDatabaseError)


def test_a_database_that_is_not_there(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseError, match=r'no connection: .*database "nowhere" does not exist'):
        LatencyDatabase(postgres.url("nowhere"))


def test_references_are_checked_by_index_though_the_tables_were_small(postgres_url: str) -> None:
    stages, names = [stage(n) for n in range(100)], ("stage_id", "position", "kind")
    scans = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'stage'"
    with LatencyDatabase(postgres_url) as database:
        database.record([(s, ok(s)) for s in stages], CPU, ENVIRONMENT)
        with database._transaction(write=True) as connection:
            connection.exec_driver_sql("ANALYZE")
            numbers = stage_ids(connection, [s.key for s in stages]).values()
            before = connection.exec_driver_sql(scans).scalar_one()
            for position in range(100, 110):
                rows = [(number, position, "relu") for number in numbers]
                assert insert_rows(connection, tables.stage_operator, names, rows) == len(stages)
            assert connection.exec_driver_sql(scans).scalar_one() == before
            # As the next statements of the transaction need it.
            assert connection.exec_driver_sql("SHOW plan_cache_mode").scalar() == "force_custom_plan"
            assert connection.exec_driver_sql("SHOW enable_seqscan").scalar() == "on"


@pytest.mark.parametrize("count", [9_999, 10_000, 20_001])
def test_rows_of_several_statements(postgres_url: str, count: int) -> None:
    odd = ['"', "\\", "{NULL}", "NULL", "", " ", "\u00e9,\n"]
    rows = [(f"{n:064x}", 1, odd[n % len(odd)], *["x"] * 3, *[n] * 5) for n in range(count)]
    names = ("key", "key_version", "canonical", "strategy", "dtype", "layout")
    names += ("batch", "groups", "units", "flops", "bytes_moved")
    with LatencyDatabase(postgres_url) as database, database._transaction(write=True) as connection:
        assert insert_rows(connection, tables.stage, names, rows) == count
        assert insert_rows(connection, tables.stage, names, rows[:5]) == 0
        found = connection.execute(select(*(tables.stage.c[name] for name in names)).order_by(tables.stage.c.key))
        assert [tuple(row) for row in found] == rows
