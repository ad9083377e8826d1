"""Files that commands write: whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.ir.errors import IosfarmError, UsageError

if TYPE_CHECKING:
    from iosfarm.db import QueryRow


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """A path to write to, which becomes `out` when all has been written, and nothing when something fails.

    Raises:
        IosfarmError: the file cannot be written.
    """
    from iosfarm.db.connection.files import replacing

    try:
        with replacing(out) as path:
            yield path
    except OSError as error:
        hint = "choose another place"
        raise IosfarmError(f"cannot write: {error.strerror or error}", where=str(out), hint=hint) from error


def write_parquet(rows: list[QueryRow], out: Path | None) -> None:
    """Rows of a query as a Parquet file, or on standard output where that is no terminal."""
    from iosfarm.db.query.frames import arrow_table

    table = arrow_table(rows)
    import pyarrow.parquet

    if out is None:
        if sys.stdout.isatty():
            raise UsageError("Parquet is not for the terminal", hint="name a file with --out")
        pyarrow.parquet.write_table(table, sys.stdout.buffer)
        return
    with writing(out) as path:
        pyarrow.parquet.write_table(table, path)
