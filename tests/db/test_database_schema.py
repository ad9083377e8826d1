"""Migrations: they make the tables that the program expects, and an older database is told from a newer one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from database_examples import CPU, ENVIRONMENT, ok, stage
from sqlalchemy import Engine

import iosfarm.db
from iosfarm.db import DatabaseError, LatencyDatabase, OutdatedDatabaseError, schema
from iosfarm.db.dialect import make_engine, transaction
from iosfarm.db.location import locate
from iosfarm.db.tables import metadata


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "latency.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = make_engine(locate(str(path)), readonly=False, timeout=1)
    yield engine
    engine.dispose()


def downgrade(engine: Engine) -> None:
    with transaction(engine, write=True) as connection:
        config = schema.alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


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
    downgrade(engine)
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


def test_older_database_names_the_command_and_migrates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LatencyDatabase(str(path)).close()
    # There is no older revision yet: one is made up, with what the head adds already in the tables.
    monkeypatch.setattr(schema, "REVISIONS", ("0000", *schema.REVISIONS))
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0000'")
    connection.commit()
    upgraded: list[str] = []

    def upgrade(config: object, target: str) -> None:
        upgraded.append(target)

    monkeypatch.setattr(command, "upgrade", upgrade)
    with LatencyDatabase(str(path)) as database:
        assert database.schema_version == "0000"
        for use in (database.stats, database.query, lambda: database.start_search("x", {})):
            with pytest.raises(OutdatedDatabaseError, match=rf"\(schema 0000\); run `iosfarm db migrate --db {path}`"):
                use()
        assert upgraded == []
        assert database.migrate() == ("0000", schema.HEAD)
        assert upgraded == ["head"]
        assert database.schema_version == schema.HEAD
        assert database.stats().measurements == 0
    connection.close()


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
    command.revision(config, message="more", rev_id="0002", autogenerate=True)
    (made,) = (scripts / "versions").glob("0002_more.py")
    text = made.read_text()
    compile(text, str(made), "exec")
    assert 'down_revision = "0001"' in text.replace("'", '"')
    assert "create_table" not in text
