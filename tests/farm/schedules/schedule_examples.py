"""Names for what the tests of schedule files share."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
"""A schedule file's JSON."""

NAMES = ("branches", "statistical", "structural", "limited")
"""Of the searches whose files are the examples."""
