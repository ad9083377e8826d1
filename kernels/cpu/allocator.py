"""The C library's allocator, told to keep what is given back instead of returning it to the system.

Tensors come and go in every stage. glibc returns a large free piece to the system at once and gets it back empty, page
by page: RandWire at batch 1 took 14,000 page faults in each execution, and with them 165 ms instead of 141 ms (two
cores, in use for other things, too).
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

KEPT = 2**29
"""Bytes that an arena may keep at its end."""

LARGEST = 2**25
"""Bytes of the largest piece that is taken from an arena rather than from the system: the most that glibc allows."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Once, for the whole process. False where the allocator is another one, or the user has set it up."""
    if any(name in os.environ for name in _SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no glibc
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    return bool(mallopt(_TRIM_THRESHOLD, KEPT) and mallopt(_MMAP_THRESHOLD, LARGEST))
