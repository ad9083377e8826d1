"""Migrations: they make the tables that the program expects, and an older database is told from a newer one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from database_examples import CPU, ENVIRONMENT, ok, stage
from sqlalchemy import Engine, inspect

import iosfarm.db
from iosfarm.db import DatabaseError, LatencyDatabase, OutdatedDatabaseError
from iosfarm.db.connection import schema
from iosfarm.db.connection.dialect import make_engine, transaction
from iosfarm.db.connection.location import locate
from iosfarm.db.identity import measurement_uid
from iosfarm.db.tables import metadata

if TYPE_CHECKING:
    from postgres import PostgresServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "latency.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = make_engine(locate(str(path)), readonly=False, timeout=1)
    yield engine
    engine.dispose()


def downgrade(engine: Engine, revision: str) -> None:
    with transaction(engine, write=True) as connection:
        config = schema.alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_migrations_make_the_tables_that_the_program_expects(path: Path, engine: Engine) -> None:
    LatencyDatabase(str(path)).close()
    with transaction(engine, write=False) as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_program_knows_every_revision() -> None:
    script = ScriptDirectory.from_config(schema.alembic_config())
    assert tuple(r.revision for r in script.walk_revisions())[::-1] == schema.REVISIONS


def test_downgrade_and_upgrade(path: Path, engine: Engine) -> None:
    s = stage(1)
    with LatencyDatabase(str(path)) as database:
        database.record([(s, ok(s))], CPU, ENVIRONMENT)
    downgrade(engine, "base")
    with transaction(engine, write=False) as connection:
        assert schema.revision(connection, "x") is None
    with LatencyDatabase(str(path)) as database:
        assert database.stats().measurements == 0
        database.record([(s, ok(s))], CPU, ENVIRONMENT)


def test_failed_migration_leaves_nothing_behind(path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = command.upgrade

    def interrupted(*arguments: object) -> None:
        upgrade(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "upgrade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LatencyDatabase(str(path))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


FIRST = """
INSERT INTO device VALUES (1, 'd', 'cpu', 'Example', false, '{}', '{}');
INSERT INTO environment VALUES (1, 'e', 'h', '{}', '{}');
INSERT INTO search (id, model, settings, state, started_at) VALUES (5, 'x', '{}', 'running', '2024-05-01 12:00:00');
INSERT INTO stage VALUES (1, 'k', 1, '{}', 'merge', 'float32', 'nchw', 1, 1, 1, 1, 1);
INSERT INTO task (id, stage_id, device_key, state, attempts) VALUES (1, 1, 'd', 'free', 0)
"""
"""Rows as iosfarm's first schema has them."""


def downgraded(url: str) -> Engine:
    """A database of the first schema, with two equal measurements, which that allowed, and one more."""
    LatencyDatabase(url).close()
    engine = make_engine(locate(url), readonly=False, timeout=1)
    downgrade(engine, "0001")
    measured = (
        "INSERT INTO measurement (id, stage_id, device_id, environment_id, search_id, status, reason, median, n,"
        " samples, unroll, rounds, worker, attempt, measured_at, conditions) VALUES"
        " ({}, 1, 1, 1, 5, 'ok', '', 1.5, 1, '[1.5]', 1, 1, 'w', 1, '2024-05-01 12:00:0{}', '{{}}')"
    )
    with transaction(engine, write=True) as connection:
        for statement in [*FIRST.split(";"), *(measured.format(n, second) for n, second in ((1, 0), (2, 0), (3, 1)))]:
            connection.exec_driver_sql(statement)
    return engine


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_older_database_names_the_command_and_migrates(backend: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("path")
    if backend == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        server.execute("CREATE DATABASE older")
        url = server.url("older")
    engine = downgraded(str(url))
    with LatencyDatabase(str(url)) as database:
        assert database.schema_version == "0001"
        for use in (database.stats, database.query, lambda: database.start_search("x", {})):
            with pytest.raises(OutdatedDatabaseError, match=r"\(schema 0001\); run `iosfarm db migrate"):
                use()
        assert database.migrate() == ("0001", schema.HEAD)
        assert database.schema_version == schema.HEAD
        rows = database.query(order_by="id", descending=False)
        assert [(row.id, row.stage_key, row.median, row.search_id) for row in rows] == [
            (n, "k", 1.5, 5) for n in (1, 2, 3)
        ]
        assert database.searches()[0].run_id is None
    with transaction(engine, write=False) as connection:
        uids = connection.exec_driver_sql("SELECT uid FROM measurement ORDER BY id").scalars().all()
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        (unique,) = inspect(connection).get_unique_constraints("stage")
        if backend == "postgres":
            assert unique["dialect_options"]["postgresql_include"] == ["id"]  # which the comparison passes over
    assert len(set(uids)) == 3
    assert uids[0] == measurement_uid(
        "k", "d", "{}", "e", datetime(2024, 5, 1, 12, tzinfo=UTC), "w", 1, "ok", "[1.5]", "{}"
    )
    engine.dispose()


def test_migrating_an_up_to_date_database_changes_nothing(path: Path) -> None:
    LatencyDatabase(str(path)).close()
    with LatencyDatabase(str(path)) as database:
        before = path.read_bytes()
        assert database.migrate() == (schema.HEAD, schema.HEAD)
        assert path.read_bytes() == before


def test_a_server_url_is_not_repeated_without_its_password() -> None:
    with pytest.raises(DatabaseError, match=r"; `iosfarm db migrate` prepares it$"):
        schema.check(None, "postgresql+psycopg://farm:***@host/db")


def test_developers_can_add_a_revision(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(iosfarm.db.__file__).parent / "migrations", scripts)
    monkeypatch.setenv("IOSFARM_DB", str(path))
    LatencyDatabase().close()
    config = schema.alembic_config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    command.revision(config, message="more", rev_id="9999", autogenerate=True)
    (made,) = (scripts / "versions").glob("9999_more.py")
    text = made.read_text()
    compile(text, str(made), "exec")
    assert f'down_revision = "{schema.HEAD}"' in text.replace("'", '"')
    assert "create_table" not in text
