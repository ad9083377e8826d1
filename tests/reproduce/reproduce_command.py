"""`iosfarm reproduce` as its tests call it."""

from __future__ import annotations

import pytest

from iosfarm.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(["reproduce", *arguments])
    out, err = capsys.readouterr()
    return code, out, err
