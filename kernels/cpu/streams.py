"""Streams: persistent threads, each with its own number of intra-op threads and its own cores.

Why it is made like this, measured on two cores with torch 2.13 (`benchmarks/cpu_runtime.py` measures it again):

- A hand-off through two bare locks costs about 6 µs there and back on one core, and 40 µs where the other stream's core
  slept. Spinning in Python costs more, because the spinning thread takes the interpreter lock from the one that works.
  Home begins with the first group at once, so that most of the 40 µs is hidden.
- Streams that are not pinned are often woken on the core of the thread that wakes them, and then run one after the
  other: a pair of convolutions took 330 µs unpinned, 230 µs pinned, 320 µs on one thread.
- The threads of an OpenMP team wait actively by default. A passive team costs 100 µs and more for every operator, and
  an active one does not keep a pinned stream from its core for longer than 40 µs. So the policy is left alone.
- `torch.set_num_threads` holds for the calling thread and costs 0.2 µs, but shrinking a team ends its threads, which
  are made anew when it grows again. Only going to one thread and back leaves the team alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from iosfarm.kernels.cpu.machine import allowed_cpus, usable_cores

Result = TypeVar("Result")
Work = Callable[[], None]


class Stream:
    """A thread that runs what it is given, one thing at a time, with `width` intra-op threads.

    cpus: where to pin these threads, one each; empty to leave that to the system.
    """

    def __init__(self, name: str, width: int, cpus: Sequence[int]) -> None:
        self.width = width
        self._cpus = cpus
        self._work: Callable[[], object] | None = None
        self._result: object = None
        self._error: BaseException | None = None
        self._busy = False
        # Held, except between a start and its beginning, and between an end and its wait.
        self._started, self._ended = threading.Lock(), threading.Lock()
        self._started.acquire()
        self._ended.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self.call(self._settle)

    def start(self, work: Callable[[], object]) -> None:
        """Begin `work` and return at once; `wait` must follow."""
        self._work = work
        self._busy = True
        self._started.release()

    def wait(self) -> object:
        """The result of what was started; what it raised is raised here."""
        self._ended.acquire()
        error, result = self._error, self._result
        self._error = self._result = self._work = None
        if error is not None:
            raise error
        return result

    def call(self, work: Callable[[], Result]) -> Result:
        """Run `work` there and wait for it. If the wait is interrupted (Ctrl-C), what runs is awaited first."""
        self.start(work)
        try:
            result = self.wait()
        except KeyboardInterrupt:
            while self._busy:
                time.sleep(1e-3)
            # The interrupt can come before the lock was taken or just after; from here on it must be held.
            self._ended.acquire(timeout=1.0)
            self._error = self._result = self._work = None
            raise
        return result  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread; once."""
        self._work = None
        self._started.release()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while True:
                self._started.acquire()
                work = self._work
                if work is None:
                    return
                try:
                    self._result = work()
                except BaseException as error:
                    self._error = error
                del work
                self._busy = False
                self._ended.release()

    def _settle(self) -> None:
        """Make the team of intra-op threads and give each thread its core."""
        if self._cpus:
            os.sched_setaffinity(0, self._cpus)
        before = _threads()
        # A thread takes over the process's number when it is first asked, which may be after another thread set it.
        torch.get_num_threads()
        torch.set_num_threads(self.width)
        if self.width > 1:
            # An operator that is large enough to be divided makes the team.
            torch.zeros(self.width * 2**16).add_(1)
        if not self._cpus:
            return
        others = self._cpus[1:] or self._cpus
        # New threads inherit our cores: that, and being new, tells the team from what others may start meanwhile.
        team = sorted(t for t in _threads() - before if _cpus_of(t) == set(self._cpus))
        for position, thread in enumerate(team):
            os.sched_setaffinity(thread, {others[position % len(others)]})
        os.sched_setaffinity(0, {self._cpus[0]})


class Streams:
    """The streams of one process: `home`, on which everything begins and ends, with all cores; others as needed.

    Groups of a stage run side by side on up to `cores` streams with an equal share of the cores each. Where the share
    is one core, home takes part itself.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores or usable_cores()
        cpus = allowed_cpus()
        # Fewer cores than CPUs: others have the same right to any CPU, so none is claimed.
        self.pinned = hasattr(os, "sched_setaffinity") and self.cores == len(cpus)
        self._cpus = cpus if self.pinned else ()
        self._others: dict[int, list[Stream]] = {}
        self._threads_before = torch.get_num_threads()
        self.home = Stream("iosfarm-home", self.cores, self._cpus)

    def width(self, groups: int) -> int:
        """Intra-op threads of each of so many groups."""
        return max(1, self.cores // groups)

    def beside(self, groups: int) -> list[Stream]:
        """The streams that run so many groups besides, or where the share is over one core, instead of, home."""
        width = self.width(groups)
        count = min(groups, self.cores // width) - (width == 1)
        streams = self._others.setdefault(width, [])
        while len(streams) < count:
            first = (len(streams) + (width == 1)) * width
            cpus = self._cpus[first : first + width]
            streams.append(Stream(f"iosfarm-{width}-{len(streams)}", width, cpus))
        return streams[:count]

    def fork(self, streams: Sequence[Stream], run: Work) -> None:
        """Called on home: `run` on all `streams`, and on home too where they have one core each; then join.

        `run` takes groups from a shared supply until there is none, so a stream that is woken late delays nothing.
        """
        for stream in streams:
            stream.start(run)
        errors: list[BaseException] = []
        if not streams or streams[0].width == 1:
            torch.set_num_threads(1)
            try:
                run()
            except BaseException as error:
                errors.append(error)
        for stream in streams:
            try:
                stream.wait()
            except BaseException as error:
                errors.append(error)
        torch.set_num_threads(self.cores)
        if errors:
            raise errors[0]

    def close(self) -> None:
        """End all threads. The number of threads that new threads of this process get is put back."""
        for stream in [self.home, *(s for streams in self._others.values() for s in streams)]:
            stream.close()
        self._others.clear()
        torch.set_num_threads(self._threads_before)


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Operators of this thread run on so many, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _threads() -> set[int]:
    """Ids of this process's threads; empty where the system does not tell."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        return set()


def _cpus_of(thread: int) -> set[int]:
    try:
        return os.sched_getaffinity(thread)
    except OSError:
        return set()
