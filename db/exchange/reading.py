"""The lines of an exported file, checked; those of a large one by a process of their own.

Checking takes longer than storing, and both are bound to one processor each: side by side they take half the time.
"""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO, Any

from iosfarm.db.errors import DatabaseError
from iosfarm.db.exchange.checking import Checker, Entry
from iosfarm.db.exchange.exchange import Rejected
from iosfarm.db.exchange.portable import VERSION, read_line
from iosfarm.ir.errors import UsageError

LONGEST_LINE = 64 * 2**20
"""Bytes: a longer one is rejected without being read as a whole."""

ALONE = 16 * 2**20
"""Bytes of a file that is not worth a process of its own."""

_GZIP = b"\x1f\x8b"

_CHUNK = 500
"""Entries that are handed over together."""

_AHEAD = 250
"""Chunks that are read before they are asked for, some 100 MB."""


def entries_of(path: Path) -> Generator[Entry]:
    """All entries of a file of JSON lines, in order.

    Raises:
        UsageError: another program's file, or a newer iosfarm's. OSError: it cannot be read. DatabaseError: the process
            that reads it was killed.
    """
    with _opened(path) as file:
        _check_header(file.readline(LONGEST_LINE), str(path))
    if path.is_file() and path.stat().st_size > ALONE:
        yield from _from_child(path)
    else:
        yield from _checked(path)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file as it is, or what was packed into it by gzip.

    Raises:
        OSError: it cannot be read, or is damaged.
    """
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        try:
            yield gzip.open(file) if packed else file  # type: ignore[misc]  # noqa: SIM115 - what it reads is closed here
        except (EOFError, zlib.error) as error:
            raise OSError(f"it is damaged: {error}") from error


def _checked(path: Path) -> Generator[Entry]:
    checker = Checker()
    with _opened(path) as file:
        file.readline(LONGEST_LINE)
        number = 1
        while text := file.readline(LONGEST_LINE):
            number += 1
            if len(text) >= LONGEST_LINE and not text.endswith(b"\n"):
                while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield Rejected(number, f"longer than {LONGEST_LINE >> 20} MiB")
                continue
            try:
                line = read_line(text)
            except ValueError as error:
                yield Rejected(number, str(error))
                continue
            yield checker.check(line, number)


def _from_child(path: Path) -> Generator[Entry]:
    # What comes through the pipe was made by this module, so it may be pickled. In a session of its own, the child is
    # not told of Ctrl-C: it ends when nobody reads from it any more.
    command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()", str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
    assert child.stdout is not None
    try:
        while chunk := pickle.load(child.stdout):
            yield from chunk
    except (EOFError, pickle.UnpicklingError) as error:
        what = "the process that read the file ended before its end"
        raise DatabaseError(what, where=str(path), hint="import it again: what was stored stays") from error
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def _serve() -> None:
    """What the child does: entries to standard output, an empty list in the end.

    It reads ahead while the parent stores: a pipe holds too little for that.
    """
    ready: Queue[bytes] = Queue(_AHEAD)
    Thread(target=_read_ahead, args=(Path(sys.argv[1]), ready), daemon=True).start()
    # Not `sys.stdout.buffer`: with PYTHONUNBUFFERED it leaves the rest out when a signal ends a write halfway.
    with suppress(BrokenPipeError), open(sys.stdout.fileno(), "wb", closefd=False) as out:
        while chunk := ready.get():
            out.write(chunk)
    sys.stderr.close()  # a pipe that nobody reads any more is no error


def _read_ahead(path: Path, ready: Queue[bytes]) -> None:
    """Entries in chunks, pickled; an empty list if all went well, and nothing more to read in any case."""
    try:
        entries = _checked(path)
        while chunk := list(islice(entries, _CHUNK)):
            ready.put(pickle.dumps(chunk, pickle.HIGHEST_PROTOCOL))
        ready.put(pickle.dumps([], pickle.HIGHEST_PROTOCOL))
    finally:
        ready.put(b"")


def _check_header(text: bytes, where: str) -> None:
    try:
        first: Any = json.loads(text)
    except (ValueError, RecursionError):
        first = None
    if not isinstance(first, dict) or first.get("type") != "iosfarm":
        hint = "give a file that `iosfarm db export` wrote"
        raise UsageError("this is no export of a latency database", where=where, hint=hint)
    found = first.get("version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UsageError(f"an export of version {found!r}", where=where, hint=f"this iosfarm reads version {VERSION}")
    if found > VERSION:
        what = f"made by a newer iosfarm (format {found}; this one reads {VERSION})"
        raise UsageError(what, where=where, hint="upgrade iosfarm")
