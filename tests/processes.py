"""Finding the processes that a test has started, whoever their parent is by now: by a mark in their environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
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


def heard_by_others(mark: str) -> list[str]:
    """Addresses, in hex as the kernel has them, at which marked processes listen to more than this machine."""
    sockets = set()
    for number in marked(mark):
        with suppress(OSError):
            sockets.update(os.readlink(descriptor) for descriptor in Path(f"/proc/{number}/fd").iterdir())
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, listens, inode = fields[1], fields[3] == "0A", fields[9]
            own = address.startswith(("0100007F:", "0000000000000000FFFF00000100007F:", f"{'0' * 24}01000000:"))
            if listens and not own and f"socket:[{inode}]" in sockets:
                found.append(address)
    return found


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether a condition comes true before a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
