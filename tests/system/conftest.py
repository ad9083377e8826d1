from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Iosfarm


@pytest.fixture
def iosfarm(tmp_path: Path) -> Iosfarm:
    """The command line in an empty folder."""
    return Iosfarm(tmp_path)
