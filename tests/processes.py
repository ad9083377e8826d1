"""Finding the processes that a test has started, whoever their parent is by now: by a mark in their environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

MARK = "IOSFARM_TEST_MARK"


def marked(mark: str) -> dict[int, str]:
    """Command lines of the running processes that were started with the mark in their environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            # The state follows the name, which is in parentheses and may hold anything.
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment and state not in "ZX":
            found[int(folder.name)] = command
    return found


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether a condition comes true before a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
