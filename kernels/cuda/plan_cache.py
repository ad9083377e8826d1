"""Which way was the fastest to compute something, kept between processes: one JSON file for each GPU and cuDNN.

It holds names and seconds, no code. A file that is damaged, of another format or cannot be written costs time only.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FORMAT = "iosfarm-plans"
VERSION = 1

QUICK = 2e-3
"""Seconds that writing the file may take after every change."""

PAUSE = 50
"""Times as long as writing takes, until it is done again, where it takes longer than that."""


@dataclass(frozen=True)
class Plan:
    """name: of the call that was the fastest. seconds: what it took."""

    name: str
    seconds: float


def cache_folder() -> Path:
    """Where plans are kept: `$XDG_CACHE_HOME/iosfarm/plans`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "iosfarm" / "plans"


class PlanCache:
    """Plans by what they compute, read once and written after a change: after each while that is quick, less often when
    there are many, and in `flush`.

    identity: everything else that decides which plan is best: GPU, versions, precision, how they
    were chosen. folder: None keeps nothing on disk.
    """

    def __init__(self, folder: Path | None, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._identity = identity
        self._file = None if folder is None else folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', identity).strip('-')}.json"
        self._plans = self._read()
        self._clock = clock
        self._next = -math.inf
        self._changed = False

    def get(self, key: str) -> Plan | None:
        """The plan, None where none is known."""
        return self._plans.get(key)

    def put(self, key: str, plan: Plan) -> None:
        """Keep a plan, on disk too, at once or soon."""
        self._plans[key] = plan
        self._changed = True
        begin = self._clock()
        if begin >= self._next:
            self.flush()
            took = self._clock() - begin
            self._next = begin + took * PAUSE if took > QUICK else -math.inf

    def flush(self) -> None:
        """Have everything on disk."""
        if self._changed and self._file is not None:
            with suppress(OSError):
                self._write(self._file)
        self._changed = False

    def _read(self) -> dict[str, Plan]:
        if self._file is None:
            return {}
        try:
            document = json.loads(self._file.read_text(encoding="utf-8"))
            if (document["format"], document["version"], document["identity"]) != (FORMAT, VERSION, self._identity):
                return {}
            return {str(key): _plan(entry) for key, entry in document["plans"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}

    def _write(self, file: Path) -> None:
        # Other processes may have found plans meanwhile.
        plans = {**self._read(), **self._plans}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "identity": self._identity,
            "plans": {key: asdict(plan) for key, plan in sorted(plans.items())},
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem[:40]}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(document, out)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _plan(entry: dict[str, object]) -> Plan:
    name, seconds = entry["name"], entry["seconds"]
    if not isinstance(name, str) or not isinstance(seconds, int | float):
        raise TypeError("not a plan")
    if not 0 < seconds < sys.float_info.max:
        raise ValueError("not a time")
    return Plan(name, float(seconds))
