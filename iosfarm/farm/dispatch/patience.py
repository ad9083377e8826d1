"""A database that is away for a while: the search waits, says so, and goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from iosfarm.db import LatencyDatabase, TransientDatabaseError

FIRST, LONGEST = 0.1, 2.0
"""Seconds between the first two attempts, and between two at most."""


def patient(
    database: LatencyDatabase,
    *,
    outage: float,
    waiting: Callable[[str, float], None] = lambda reason, seconds: None,
    back: Callable[[float], None] = lambda seconds: None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LatencyDatabase:
    """The same database, whose methods try again for up to `outage` seconds where a `TransientDatabaseError` says that
    the same call may succeed later. waiting: told why, and for how long by now; back: told for how long it was. `stop`
    ends the waiting with that error, as does the end of the outage.
    """
    return cast("LatencyDatabase", _Patient(database, outage, waiting, back, stop, clock, sleep))


class _Patient:
    """Each method of the database is one transaction that may be repeated, so each call can be tried again."""

    def __init__(
        self,
        database: LatencyDatabase,
        outage: float,
        waiting: Callable[[str, float], None],
        back: Callable[[float], None],
        stop: Callable[[], bool],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._database = database
        self._outage = outage
        self._waiting = waiting
        self._back = back
        self._stop = stop
        self._clock = clock
        self._sleep = sleep

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._database, name)
        return self._trying(value) if callable(value) else value

    def _trying(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            began: float | None = None
            pause = FIRST
            while True:
                try:
                    result = method(*arguments, **named)
                except TransientDatabaseError as error:
                    now = self._clock()
                    began = now if began is None else began
                    if now - began >= self._outage or self._stop():
                        raise
                    self._waiting(str(error), now - began)
                    self._sleep(pause)
                    pause = min(LONGEST, 2 * pause)
                    continue
                if began is not None:
                    self._back(self._clock() - began)
                return result

        return call
