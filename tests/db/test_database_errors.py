"""What goes wrong with real files and real locks, and what the user reads then."""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from database_examples import CPU, ENVIRONMENT, ok, stage
from sqlalchemy import event

from iosfarm.db import DatabaseError, DatabaseUrlError, LatencyDatabase, TransientDatabaseError
from iosfarm.db.connection.location import default_path, locate, network_file_system
from iosfarm.db.connection.schema import VERSION_TABLE
from iosfarm.ir.errors import UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one measurement."""
    path = tmp_path / "latency.db"
    with LatencyDatabase(str(path)) as database:
        database.record([(stage(1), ok(stage(1)))], CPU, ENVIRONMENT)
    return path


def count(path: Path) -> int:
    with LatencyDatabase(str(path), readonly=True) as database:
        return database.stats().measurements


def test_locked(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    with LatencyDatabase(str(path), timeout=0.1) as database:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientDatabaseError, match=f"^{path}: another process holds the database; wait"):
            database.record([(stage(2), ok(stage(2)))], CPU, ENVIRONMENT)
        other.execute("ROLLBACK")
        database.record([(stage(2), ok(stage(2)))], CPU, ENVIRONMENT)
    other.close()
    assert count(path) == 2


def test_disk_full_keeps_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    recorded = 0
    with LatencyDatabase(str(path)) as database:
        assert database._engine is not None

        @event.listens_for(database._engine, "checkout")
        def limit(connection: sqlite3.Connection, *_: object) -> None:
            # SQLite's own limit gives the same error code as a full disk, without filling one.
            connection.execute("PRAGMA max_page_count=80")

        def fill() -> None:
            nonlocal recorded
            while recorded < 100_000:
                items = [(stage(n), ok(stage(n))) for n in range(recorded, recorded + 10)]
                database.record(items, CPU, ENVIRONMENT)
                recorded += 10

        with pytest.raises(TransientDatabaseError, match="the disk is full; free some space"):
            fill()
    assert recorded > 0
    assert count(path) == recorded


OPEN_AS_NOBODY = """
import os, sys
sys.path[:0] = sys.argv[2:]
from iosfarm.db import DatabaseError, LatencyDatabase
if os.geteuid() == 0:
    os.setuid(65534)
try:
    LatencyDatabase(sys.argv[1])
except DatabaseError as error:
    print(error)
"""


def open_without_rights(path: Path) -> str:
    """What a user without root's rights reads. Root may write everywhere, so that a mode alone stops only others."""
    for parent in (path.parent, *path.parent.parents[:2]):
        if parent.stat().st_uid == os.geteuid() and parent != path.parent:
            parent.chmod(parent.stat().st_mode | 0o755)
    arguments = [sys.executable, "-c", OPEN_AS_NOBODY, str(path), *sys.path]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_read_only_file(path: Path) -> None:
    path.parent.chmod(0o777)
    path.chmod(0o444)
    assert open_without_rights(path) == (
        f"{path}: the file is read-only; make it writable, or choose another one with --db or IOSFARM_DB\n"
    )


def test_directory_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        told = open_without_rights(tmp_path / "latency.db")
    finally:
        tmp_path.chmod(0o755)
    assert told.startswith(f"{tmp_path}/latency.db: the directory {tmp_path} is not writable; make it writable")


def test_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    top = tmp_path / "closed"
    closed = top / "deep" / "deeper" / "deepest"
    closed.mkdir(parents=True)
    top.chmod(0o700 if os.geteuid() == 0 else 0o000)
    try:
        told = open_without_rights(closed / "latency.db")
    finally:
        top.chmod(0o755)
    assert told == (
        f"{closed}/latency.db: cannot look there: Permission denied; choose another place with --db or IOSFARM_DB\n"
    )


def test_file_that_turns_read_only_while_open(path: Path) -> None:
    with LatencyDatabase(str(path)) as database:
        assert database._engine is not None

        @event.listens_for(database._engine, "checkout")
        def refuse(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute("PRAGMA query_only=ON")  # SQLite's own refusal, which root cannot overrule

        with pytest.raises(DatabaseError, match="the database is read-only; make it writable"):
            database.start_search("nasnet", {})


@pytest.mark.parametrize("replaced", [False, True])
def test_file_that_is_deleted_while_open(path: Path, replaced: bool) -> None:
    """The system would go on to take what is written, for a file that nobody can find any more."""
    with LatencyDatabase(str(path)) as database:
        database.start_search("nasnet", {})
        path.unlink()
        if replaced:
            LatencyDatabase(str(path)).close()
        with pytest.raises(DatabaseError, match=f"{path}: the file was deleted or replaced while") as caught:
            database.start_search("nasnet", {})
        assert not isinstance(caught.value, TransientDatabaseError)  # waiting does not bring it back


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=f"there is no directory {tmp_path}/missing; make it first"):
        LatencyDatabase(str(tmp_path / "missing" / "latency.db"))
    assert os.listdir(tmp_path) == []


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="this is a directory; name a file in it"):
        LatencyDatabase(str(tmp_path))


def test_default_directory_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(DatabaseError, match="cannot make the directory: Not a directory; choose another place"):
        LatencyDatabase()


def test_reading_does_not_create(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="there is no latency database here; `iosfarm search` makes one"):
        LatencyDatabase(str(tmp_path / "latency.db"), readonly=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(DatabaseError, match=f"the database is empty; `iosfarm db migrate --db {tmp_path}/empty.db`"):
        LatencyDatabase(str(tmp_path / "empty.db"), readonly=True)
    assert os.listdir(tmp_path) == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 500)
    with pytest.raises(DatabaseError, match=f"^{path}: the file is not a database; choose another file"):
        LatencyDatabase(str(path))
    assert path.read_text() == "Dear diary, " * 500


def test_another_programs_database_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE alembic_version (version_num TEXT)")
    other.execute("INSERT INTO alembic_version VALUES ('0001')")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match="this database belongs to another program; choose another one"):
        LatencyDatabase(str(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["other.db"]


def test_made_by_a_newer_iosfarm(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    other.commit()
    other.close()
    for readonly in (False, True):
        with pytest.raises(DatabaseError, match=r"made by a newer iosfarm \(schema 9999.*; upgrade iosfarm"):
            LatencyDatabase(str(path), readonly=readonly)


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("samples", "[1.0, ", "measurement 1 is damaged: Expecting value"),
        ("samples", "[1.0] 2", "measurement 1 is damaged: ' 2' after its JSON"),
        ("samples", b"[1.0]", "JSON cannot hold BLOB values"),
        ("conditions", 4.5, "measurement 1 is damaged"),
        ("conditions", "\0{}", "measurement 1 is damaged"),
        ("measured_at", "yesterday", "measurement 1 is damaged: Invalid isoformat string: 'yesterday'"),
    ],
)
def test_damaged_row(path: Path, column: str, value: object, what: str) -> None:
    other = sqlite3.connect(path)
    other.execute(f"UPDATE measurement SET {column} = ?", [value])
    other.commit()
    other.close()
    with LatencyDatabase(str(path)) as database, pytest.raises(DatabaseError, match=what):
        database.lookup([stage(1).key], CPU, ENVIRONMENT)


def test_damaged_file(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(DatabaseError, match="the database file is damaged; restore it"):
        LatencyDatabase(str(path)).query()


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("sqlite:latency.db", "malformed database URL sqlite:…"),
        ("postgresql:farm:secret@host/db", "malformed database URL postgresql:…"),
        ("postgresql://farm:secret@host:sec/ret/db", "malformed database URL postgresql:…"),
        ("postgresql://farm:secret@host", "the URL names no database"),
        ("://farm:secret@host/db", "malformed database URL"),
        ("mysql://farm:secret@host/db", "iosfarm does not run on mysql"),
        ("postgresql+psycopg2://farm:secret@host/db", r"does not run on postgresql\+psycopg2"),
        ("sqlite://host/secret.db", "an SQLite URL takes a path and nothing else"),
        ("sqlite://user:secret@/x", "malformed database URL sqlite:…: an SQLite URL takes a path and nothing else"),
        ("SQLITE://user@/secret.db", "an SQLite URL takes a path and nothing else"),
        ("sqlite:///x.db?key=secret", "an SQLite URL takes a path and nothing else"),
        ("   ", "malformed database URL"),
        ("", "an empty --db; write a file's path, "),
    ],
)
def test_url_that_cannot_be_used(url: str, what: str) -> None:
    with pytest.raises(DatabaseUrlError, match=what) as caught:
        LatencyDatabase(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 2


def test_schemes_in_capitals(path: Path) -> None:
    with LatencyDatabase(f"SQLite:///{path}", readonly=True) as database:
        assert database.name == str(path)
    assert locate("PostgreSQL://farm@host/db").name == "postgresql+psycopg://farm@host/db"


MOUNTS = r"""
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local\040disk xfs rw 0 0
//box/share /mnt/share cifs rw 0 0
host:/ /mnt/ssh fuse.sshfs rw 0 0
tmpfs /mnt/over nfs rw 0 0
tmpfs /mnt/over tmpfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/data/latency.db", None),
        ("/home/me/latency.db", "nfs4"),
        ("/home", "nfs4"),
        ("/homeless/latency.db", None),
        ("/home/local disk/latency.db", None),
        ("/mnt/share/x", "cifs"),
        ("/mnt/ssh/x", "fuse.sshfs"),
        ("/mnt/over/x", None),
    ],
)
def test_network_file_systems_are_told(place: str, kind: str | None) -> None:
    assert network_file_system(Path(place), MOUNTS) == kind


def test_sqlite_on_a_network_file_system_is_refused_and_can_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(place: Path, mounts: str | None = None) -> str | None:
        return "nfs4"

    monkeypatch.setattr("iosfarm.db.connection.location.network_file_system", told)
    monkeypatch.setattr("iosfarm.db.connection.dialect.network_file_system", told)
    with pytest.raises(
        DatabaseError, match=r"cannot be shared on a network file system \(nfs4\): its locks fail"
    ) as caught:
        LatencyDatabase(str(path))
    assert "or a PostgreSQL server" in caught.value.hint
    assert count(path) == 1
    assert sorted(os.listdir(path.parent)) == [path.name]  # no log, no index of one: nothing was locked


def test_nothing_to_read_in_memory() -> None:
    with pytest.raises(DatabaseError, match=r"^a database in memory starts empty: there is nothing to read; name"):
        LatencyDatabase(":memory:", readonly=True)


def test_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOSFARM_DB", "")
    assert locate(None).path == default_path().absolute()


WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None  # as if it were not installed, where it is
from iosfarm.db import DatabaseUrlError, LatencyDatabase
try:
    LatencyDatabase("postgresql://farm:secret@host/db?password=secret")
except DatabaseUrlError as error:
    print(error)
"""


def test_driver_is_not_installed() -> None:
    told = subprocess.check_output([sys.executable, "-c", WITHOUT_DRIVER], text=True, timeout=60)
    assert told == (
        "postgresql+psycopg://farm:***@host/db: the driver psycopg is not installed; `pip install iosfarm[postgres]`\n"
    )


def test_no_server() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(DatabaseError, match=r"no connection: .*; check the server") as caught:
        LatencyDatabase("postgresql://farm:secret@127.0.0.1:1/db", timeout=2)
    assert "secret" not in str(caught.value)


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DatabaseError("what", where="where", hint="hint")))
    assert (type(error), str(error)) == (DatabaseError, "where: what; hint")
