"""The three rooms outside `iosfarm/` are the same modules as `iosfarm.db`, `.kernels`, `.workers`, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = ("db", "kernels", "workers")


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_a_relative_link(root: Path, room: str) -> None:
    link = root / "iosfarm" / room
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{room}"


@pytest.mark.parametrize("room", ROOMS)
def test_link_is_committed_as_a_link(root: Path, room: str) -> None:
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "--", f"iosfarm/{room}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.startswith("120000 ")


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_not_a_top_level_package(root: Path, room: str) -> None:
    """From the root of the checkout, `import db` would otherwise load a second copy of every module."""
    done = subprocess.run([sys.executable, "-c", f"import {room}"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: import iosfarm.{room}, not {room}")


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_a_package_of_iosfarm(tmp_path: Path, room: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import iosfarm.{room}"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
