"""Lets the tests here use what lies beside the other runtimes' tests: cases and the conformance suite."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
