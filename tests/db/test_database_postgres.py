"""The latency database in PostgreSQL: the common contract, and what only a server can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from database_conformance import LatencyDatabaseConformance
from database_examples import CPU, ENVIRONMENT, ok, stage
from exchange_conformance import ExchangeConformance
from product_conformance import ProductConformance

from iosfarm.db import DatabaseError, LatencyDatabase, TransientDatabaseError

if TYPE_CHECKING:
    from postgres import PostgresServer


class TestPostgres(LatencyDatabaseConformance, ProductConformance, ExchangeConformance):
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
