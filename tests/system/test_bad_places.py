"""Databases and places to write that cannot be used: told in one line, and nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command_line import SIM, Iosfarm, finish, until_said


@pytest.fixture
def known(iosfarm: Iosfarm) -> int:
    """Stages in the database after a first, small search."""
    iosfarm.zoo()
    assert iosfarm(*SIM, "-r", "1").code == 0
    return iosfarm.distinct()


def test_a_locked_database(iosfarm: Iosfarm, known: int) -> None:
    with closing(sqlite3.connect(iosfarm.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = iosfarm(*SIM)
    assert done.code == 1
    assert "latency.db: another process holds the database; wait" in done.error
    assert iosfarm.distinct() == known


def test_a_newer_database(iosfarm: Iosfarm, known: int) -> None:
    with closing(sqlite3.connect(iosfarm.database)) as connection:
        connection.execute("UPDATE iosfarm_version SET version_num = '9999'")
        connection.commit()
    done = iosfarm(*SIM)
    assert done.code == 1
    assert "made by a newer iosfarm" in done.error
    assert "upgrade iosfarm" in done.error
    assert iosfarm.distinct() == known


def test_not_a_database(iosfarm: Iosfarm) -> None:
    iosfarm.zoo()
    iosfarm.database.write_text("not a database, but a text that is longer than any header of one\n" * 40)
    before = iosfarm.database.read_bytes()
    done = iosfarm(*SIM)
    assert done.code == 1
    assert "latency.db: the file is not a database" in done.error
    assert iosfarm.database.read_bytes() == before


def _mount(folder: Path, *options: str) -> None:
    """A file system of one's own, or a skip."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount on; given back at the end."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    folder = tmp_path / "mounted"
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def test_a_read_only_database(iosfarm: Iosfarm, known: int, mounted: Path) -> None:
    if os.geteuid() == 0:  # for whom no file is read-only, unless its file system is
        _mount(mounted)
        shutil.copy(iosfarm.database, mounted / "latency.db")
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    else:
        mounted.mkdir()
        shutil.copy(iosfarm.database, mounted / "latency.db")
        (mounted / "latency.db").chmod(0o444)
        mounted.chmod(0o555)
    done = iosfarm(*SIM, "--db", str(mounted / "latency.db"))
    assert done.code == 1
    assert "read-only" in done.error or "not writable" in done.error
    assert "--db" in done.error


# -- places to write -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["zoo.yaml", "zoo.yaml/below", "/proc/schedules"])
def test_an_output_folder_that_cannot_be_written(iosfarm: Iosfarm, out: str) -> None:
    iosfarm.zoo()
    done = iosfarm(*SIM, "--out", out)
    assert done.code == 1
    assert done.error.startswith(f"{out}: cannot write here: ")
    assert done.error.endswith("; choose another folder with --out")
    assert not iosfarm.database.exists()


def test_no_space_for_the_schedule(iosfarm: Iosfarm, mounted: Path) -> None:
    iosfarm.zoo()
    _mount(mounted, "-o", "size=4k")
    done = iosfarm(*SIM, "--out", str(mounted))
    assert done.code == 1
    assert "cannot write the schedule: No space left on device; what was measured is in the database" in done.error
    assert list(mounted.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=10m", str(mounted)], check=True)
    again = iosfarm(*SIM, "--out", str(mounted), "--json")
    assert again.code == 0
    assert again.document["results"][0]["counts"]["measured"] == 0


def test_no_space_for_the_database(iosfarm: Iosfarm, mounted: Path) -> None:
    iosfarm.zoo("models:\n  - name: squeezenet\n")
    _mount(mounted, "-o", "size=1m")
    iosfarm.database = mounted / "latency.db"
    (mounted / "zoo.yaml").write_text("models:\n  - name: sample\n")
    assert iosfarm(*SIM, "--models", str(mounted / "zoo.yaml"), "--db", str(iosfarm.database)).code == 0
    known = iosfarm.distinct()
    (mounted / "filler").write_bytes(b"\0" * (shutil.disk_usage(mounted).free - 70_000))
    # With all stages wanted at once, the first ones that come in are too many for what is left.
    process = iosfarm.start(*SIM, "--db", str(iosfarm.database), "--method", "exhaustive")
    until_said("the disk is full; free some space", process)
    assert iosfarm.distinct() == known
    subprocess.run(["mount", "-o", "remount,size=20m", str(mounted)], check=True)
    assert finish(process).code == 0
    assert iosfarm.distinct() > known


def test_files_that_may_not_grow(iosfarm: Iosfarm, known: int) -> None:
    # As with a quota; this one needs no file system of its own.
    def limit() -> None:
        size = iosfarm.database.stat().st_size + 4096
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    iosfarm.zoo("models:\n  - name: squeezenet\n")
    process = iosfarm.start(*SIM, preexec=limit)
    until_said("waiting for the database", process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 1
    assert "latency.db" in done.error
    assert iosfarm.distinct() >= known
    assert iosfarm(*SIM).code == 0
