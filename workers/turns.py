"""Processes of one user on one machine take turns on a device: two searches at once would measure each other."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iosfarm.ir.device import Device, canonical_json

PATIENCE = 20.0
"""Seconds to wait for a turn, less than a driver gives a task. Whoever waits longer goes on beside the other."""

_POLL = 0.02


@contextmanager
def turn(
    device: Device,
    *,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bool]:
    """The device to oneself among this user's processes on this machine; yields False where it could not be had.

    A simulated device is nobody's. The one who waits longest is next: whoever has just had the device queues behind
    him. A process that is killed leaves nothing behind. Where files cannot be locked nobody waits.
    """
    if device.simulated:
        yield True
        return
    deadline = clock() + patience
    with ExitStack() as stack:
        try:
            queue, held = (stack.enter_context(_opened(path)) for path in lock_files(device))
        except OSError:
            yield True
            return
        alone = _lock(queue, deadline, clock, sleep) and _lock(held, deadline, clock, sleep)
        _unlock(queue)  # the next one may wait for the device itself
        yield alone


def lock_files(device: Device) -> tuple[Path, Path]:
    """The queue of a device, and what its holder locks."""
    # A board is the same one whatever its index is: a process that is shown one GPU alone counts from that one.
    board = device.instance.get("uuid")
    instance = {"uuid": board} if board else dict(device.instance)
    identity = canonical_json({"key": device.key, "instance": instance})
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir())
    user = os.getuid() if hasattr(os, "getuid") else 0
    return folder / f"iosfarm-{user}-{digest}.queue", folder / f"iosfarm-{user}-{digest}.lock"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Not through a link that somebody else may have put there.
    number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        yield number
    finally:
        os.close(number)  # which gives a lock back


def _lock(number: int, deadline: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> bool:
    try:
        import fcntl
    except ImportError:  # no Unix
        return True
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock() >= deadline:
                return False
            sleep(_POLL)
        except OSError:  # a file system without locks
            return True
        else:
            return True


def _unlock(number: int) -> None:
    try:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_UN)
    except (ImportError, OSError):
        pass
