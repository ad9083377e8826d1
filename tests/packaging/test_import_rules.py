"""Dependencies point one way (`[tool.importlinter]`), and the linter sees the linked rooms too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINT = str(Path(sys.executable).with_name("lint-imports"))
VIOLATIONS = [
    ("iosfarm/ir", "iosfarm.kernels"),
    ("kernels", "iosfarm.workers"),
    ("workers", "iosfarm.db"),
    ("db", "iosfarm.search"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_dependencies_point_one_way(root: Path) -> None:
    done = lint(root)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("room", "imported"), VIOLATIONS)
def test_a_planted_violation_is_found(root: Path, tmp_path: Path, room: str, imported: str) -> None:
    for folder in ("iosfarm", "db", "kernels", "workers"):
        shutil.copytree(root / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tmp_path)
    (tmp_path / room / "planted.py").write_text(f"def late() -> None:\n    import {imported}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    package = room.replace("/", ".").removeprefix("iosfarm.")
    assert f"iosfarm.{package}.planted -> {imported}" in done.stdout
