"""The methods of `LatencyDatabase` that carry measurements from one database to another."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack

from iosfarm.db.connection.files import replacing
from iosfarm.db.connection.handle import Handle
from iosfarm.db.errors import DatabaseError
from iosfarm.db.query.filters import Conditions
from iosfarm.ir.collector import seldom_collecting
from iosfarm.ir.errors import UsageError

_PARQUET = b"PAR1"


MOST_TOLD = 1000
"""Rejected lines that are named; all are counted."""


@dataclass(frozen=True)
class Rejected:
    """A line that was not taken. line: from 1; 0 where a source has no lines."""

    line: int
    reason: str


@dataclass
class ImportReport:
    """What became of an import. Counts are measurements, but for the last four.

    stored: new here. known: there already. quarantined: there already, and not to be believed any more. rejected: lines
    of any type; the first thousand are named. complete: False where the source was cut short. plans: new or newer ones.
    """

    source: str
    stored: int = 0
    known: int = 0
    quarantined: int = 0
    rejected: int = 0
    named: list[Rejected] = field(default_factory=list)
    complete: bool = True
    runs: int = 0
    searches: int = 0
    schedules: int = 0
    plans: int = 0

    def reject(self, line: int, reason: str) -> None:
        """Counts a line that is not taken."""
        self.rejected += 1
        if len(self.named) < MOST_TOLD:
            self.named.append(Rejected(line, reason))


class Exchange(Handle):
    """Exports are JSON lines, or Parquet where the file's name ends so; the format has a version.

    JSON lines hold everything. Parquet holds measurements, one in each row, for other programs to read, too. Importing
    checks every row; what is wrong is counted and named, and the rest is stored. A measurement that is there already is
    not stored again; those that differ in anything that was measured are kept side by side. So imports and merges can
    be repeated, and go on where an interrupted one ended.
    """

    def export(
        self, path: Path, *, report: Callable[[int], None] = lambda _: None, **conditions: Unpack[Conditions]
    ) -> int:
        """Writes the measurements that meet every condition to a file; returns how many.

        Without conditions, a JSON file also holds the runs, searches, schedules and plans. An existing file is replaced
        once the new one is whole. report: told now and then how many have been written.

        Raises:
            UsageError: a condition that cannot be. MissingExtraError: Parquet without pyarrow. OSError: it cannot be
                written.
        """
        from iosfarm.db.exchange.exporting import lines_of
        from iosfarm.db.exchange.portable import VERSION

        lines = lines_of(self, conditions, report)
        with replacing(path) as part:
            if path.suffix.lower() == ".parquet":
                from iosfarm.db.exchange.parquet import write_parquet

                return write_parquet(lines, part)
            measured, count = 0, 1
            with part.open("w", encoding="utf-8") as file:
                file.write(_text({"type": "iosfarm", "version": VERSION, "program": version("iosfarm")}))
                for line in lines:
                    file.write(_text(line))
                    measured += line["type"] == "measurement"
                    count += 1
                file.write(_text({"type": "end", "lines": count}))
        return measured

    @seldom_collecting()
    def import_file(self, path: Path, *, report: Callable[[ImportReport], None] = lambda _: None) -> ImportReport:
        """Stores what a file holds that `export` wrote; tells what became of every row.

        Raises:
            UsageError: no such file, of another program, or of a newer iosfarm. MissingExtraError: Parquet without
                pyarrow. DatabaseError: what was stored before stays; the same import goes on from there.
        """
        from iosfarm.db.exchange.importing import Importer

        importer = Importer(self, str(path), report)
        try:
            with path.open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UsageError(
                        "not a file that can be read twice", where=str(path), hint="write it to disk first"
                    )
                columns = file.read(len(_PARQUET)) == _PARQUET
            if columns:
                from iosfarm.db.exchange.parquet import read_parquet

                read_parquet(path, importer)
            else:
                from iosfarm.db.exchange.reading import entries_of

                with closing(entries_of(path)) as entries:
                    for entry in entries:
                        importer.store(entry)
        except OSError as error:
            raise UsageError(f"cannot read: {error.strerror or error}", where=str(path)) from error
        return importer.finish()

    @seldom_collecting()
    def merge(
        self,
        other: Handle,
        *,
        report: Callable[[ImportReport], None] = lambda _: None,
        **conditions: Unpack[Conditions],
    ) -> ImportReport:
        """Stores what another database holds and this one does not; with conditions, only measurements that meet them.

        Raises:
            UsageError: it is this same database, or a condition that cannot be. DatabaseError: as `import_file`.
        """
        from iosfarm.db.exchange.exporting import lines_of
        from iosfarm.db.exchange.importing import Importer
        from iosfarm.db.exchange.portable import check_line

        if other._location == self._location and not self._location.in_memory:
            raise UsageError("a database cannot be merged into itself", where=other.name)
        importer = Importer(self, other.name, report)
        count = 1
        for line in lines_of(other, conditions):
            count += 1
            try:
                importer.take(check_line(line), count)
            except ValueError as error:
                importer.result.reject(count, str(error))
        importer.take(check_line({"type": "end", "lines": count}), count + 1)
        return importer.finish()


def _text(line: dict[str, Any]) -> str:
    try:
        return json.dumps(line, separators=(",", ":"), allow_nan=False, ensure_ascii=False, default=_moment) + "\n"
    except ValueError as error:
        raise DatabaseError(f"a row is damaged: {error}") from error


def _moment(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
