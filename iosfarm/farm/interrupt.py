"""Signals that lose nothing: the first one asks to stop, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the user (SIGINT), or the system (SIGTERM), has asked to stop.

    heeded: whether somebody has asked about that since: what had come to its end before was not interrupted by it.
    exit_code: of a command that was: 128 and the number of the signal, as shells have it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.heeded = False
        self.exit_code = 128 + signal.SIGINT

    def __call__(self) -> bool:
        self.heeded |= self.requested
        return self.requested


class Stopped(KeyboardInterrupt):
    """The second signal. exit_code: see `Interrupt`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


@contextmanager
def graceful_interrupt(notice: Callable[[], None] = lambda: None) -> Iterator[Interrupt]:
    """Within it SIGINT and SIGTERM set a flag and call `notice`; a second one raises `Stopped`, a KeyboardInterrupt.

    Outside of the main thread signals cannot be caught: there the flag stays down.
    """
    interrupt = Interrupt()

    def handle(number: int, _: FrameType | None) -> None:
        interrupt.exit_code = 128 + number
        if interrupt.requested:
            raise Stopped(interrupt.exit_code)
        interrupt.requested = True
        notice()

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
