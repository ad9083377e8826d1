"""The system's Chromium, which the tests of a report's page click through."""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> str:
    """Its path. Where there is none, tests are skipped, but never in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        what = f"no browser on PATH: none of {', '.join(NAMES)} (Debian's package is chromium)"
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    return found
