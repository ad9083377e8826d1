"""Ctrl-C that loses nothing: the first one asks to stop, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the user, or the system (SIGTERM), has asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        return self.requested


@contextmanager
def graceful_interrupt(notice: Callable[[], None] = lambda: None) -> Iterator[Interrupt]:
    """Within it SIGINT and SIGTERM set a flag and call `notice`; a second one raises KeyboardInterrupt.

    Outside of the main thread signals cannot be caught: there the flag stays down.
    """
    interrupt = Interrupt()

    def handle(_: int, __: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
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
