"""Which way was the fastest to compute something, kept between processes: one JSON file for each GPU and cuDNN.

It holds names and seconds, no code. A file that is damaged, of another format or cannot be written costs time only.
A search's driver keeps plans in the latency database as well, and tells them to all its devices: the file is for what
runs without one (`iosfarm run`, `iosfarm.compile`, the GPU check's sections).
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from iosfarm.ir.plan import Plan, PlanScope

FORMAT = "iosfarm-plans"
VERSION = 2

QUICK = 2e-3
"""Seconds that writing the file may take after every change."""

PAUSE = 50
"""Times as long as writing takes, until it is done again, where it takes longer than that."""


def cache_folder() -> Path:
    """Where plans are kept: `$XDG_CACHE_HOME/iosfarm/plans`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "iosfarm" / "plans"


class PlanCache:
    """Plans by what they compute, read once and written after a change: after each while that is quick, less often when
    there are many, and in `flush`.

    folder: None keeps nothing on disk.
    """

    def __init__(self, folder: Path | None, scope: PlanScope, clock: Callable[[], float] = time.monotonic) -> None:
        self.scope = scope
        model = re.sub(r"[^A-Za-z0-9.]+", "-", scope.model).strip("-")
        self._file = None if folder is None else folder / f"{model}-{scope.key[:16]}.json"
        self._plans = self._read()
        self._told: dict[str, Plan] = {}
        self._news: dict[str, Plan] = {}
        self._clock = clock
        self._next = -math.inf
        self._changed = False

    def get(self, key: str) -> Plan | None:
        """The plan, None where none is known."""
        plan = self._plans.get(key)
        if plan is not None and key not in self._told:
            self._news[key] = plan
        return plan

    def tell(self, plans: Iterable[Plan]) -> None:
        """Plans that somebody else knows; they count for more than those of the file, which may be older."""
        for plan in plans:
            self._told[plan.key] = self._plans[plan.key] = plan
            self._news.pop(plan.key, None)
            self._changed = True

    def take_news(self) -> list[Plan]:
        """Plans that were found or used since the last call, and that nobody has told."""
        news = list(self._news.values())
        self._told.update(self._news)
        self._news.clear()
        return news

    def put(self, plan: Plan) -> None:
        """Keep a plan, on disk too, at once or soon."""
        self._plans[plan.key] = self._news[plan.key] = plan
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
            if (document["format"], document["version"], document["scope"]) != (FORMAT, VERSION, self.scope.text):
                return {}
            return {key: Plan(key, *entry) for key, entry in document["plans"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}

    def _write(self, file: Path) -> None:
        # Other processes may have found plans meanwhile.
        plans = {**self._read(), **self._plans}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "scope": self.scope.text,
            "plans": {key: [plan.name, plan.seconds] for key, plan in sorted(plans.items())},
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
