"""Python's garbage collector, asked to look less often where many objects are made and few of them are garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 100_000
"""New objects after which the collector looks through them. Python's own 700 are fewer than one answer of a device
makes: a fifth of a driver's time, and of an import's, went to looking through rows and stages that are in use, or that
reference counts free a moment later. What is in cycles waits a little longer, some tens of MB at most.
"""


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Within the block the collector runs less often; one that is off, or runs as seldom already, is left alone."""
    before = gc.get_threshold()
    mine = (YOUNG, *before[1:])
    if not gc.isenabled() or not 0 < before[0] < YOUNG:
        yield
        return
    gc.set_threshold(*mine)
    try:
        yield
    finally:
        if gc.get_threshold() == mine:  # whoever has changed it meanwhile knows why
            gc.set_threshold(*before)
