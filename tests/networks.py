"""Two networks that are joined by a cable which can be cut: packets vanish, and nobody is told."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from types import TracebackType
from typing import Self

NOWHERE = "02:00:00:00:00:99"
"""A station that is not there."""


def missing() -> str:
    """Why there can be no networks of our own here; empty: there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` command"
    name = f"iosfarm-{uuid.uuid4().hex[:6]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces need more rights than there are here: {made.stderr.strip()}"
    _ip("netns", "delete", name)
    return ""


class Cable:
    """Network namespaces `near` and `far`, at 10.99.0.1 and 10.99.0.2. A context manager."""

    addresses = ("10.99.0.1", "10.99.0.2")

    def __init__(self) -> None:
        mark = uuid.uuid4().hex[:6]
        self.near, self.far = f"iosfarm-{mark}-near", f"iosfarm-{mark}-far"
        self._ends = (self.near, f"n{mark}"), (self.far, f"f{mark}")
        for name in (self.near, self.far):
            _ip("netns", "add", name)
        (near, one), (far, other) = self._ends
        _ip("link", "add", one, "netns", near, "type", "veth", "peer", "name", other, "netns", far)
        for (name, end), address in zip(self._ends, self.addresses, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", end, "up")

    def inside(self, name: str) -> list[str]:
        """What to put before a command that is to run there."""
        return ["ip", "netns", "exec", name]

    def cut(self) -> None:
        """Both ends send to a station that is not there: no reset, no "unreachable"."""
        for (name, end), peer in zip(self._ends, reversed(self.addresses), strict=True):
            _ip("-n", name, "neighbour", "replace", peer, "lladdr", NOWHERE, "dev", end, "nud", "permanent")

    def mend(self) -> None:
        """Both ends find each other again."""
        for (name, end), peer in zip(self._ends, reversed(self.addresses), strict=True):
            _ip("-n", name, "neighbour", "delete", peer, "dev", end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "delete", name], check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
