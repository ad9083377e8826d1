"""One runtime for each device of this process, however many models are compiled for it.

A runtime has threads that are pinned to cores: two on one machine would fight for them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from iosfarm.kernels import open_runtime
from iosfarm.kernels.runtime import Runtime


class SharedRuntime:
    """A runtime that several models use, from any thread, one at a time."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.users = 0
        self._runtime = open_runtime(spec)
        self._lock = threading.RLock()
        self._process = os.getpid()

    @contextmanager
    def use(self) -> Iterator[Runtime]:
        """The runtime, while nobody else has it.

        Raises:
            RuntimeError: in a child process, which has the memory of its parent but not the threads.
        """
        if os.getpid() != self._process:
            raise RuntimeError("this model was compiled before the process forked; compile it in the child")
        with self._lock:
            yield self._runtime


_shared: dict[str, SharedRuntime] = {}
_guard = threading.RLock()  # a model may be dropped, by the garbage collector, while this thread holds it


def acquire(spec: str) -> SharedRuntime:
    """The shared runtime of a device, opened if it is not; `release` it once.

    Raises:
        UsageError: no such device.
    """
    with _guard:
        shared = _shared.get(spec)
        if shared is None or shared._process != os.getpid():
            shared = _shared[spec] = SharedRuntime(spec)
        shared.users += 1
        return shared


def leave(shared: SharedRuntime) -> None:
    """As `release`, but the runtime stays open for those to come."""
    with _guard:
        shared.users -= 1


def release(shared: SharedRuntime) -> None:
    """Give a shared runtime back; the last user closes it."""
    with _guard:
        leave(shared)
        if shared.users or _shared.get(shared.spec) is not shared or os.getpid() != shared._process:
            return
        del _shared[shared.spec]
    with shared.use() as runtime:
        runtime.close()
