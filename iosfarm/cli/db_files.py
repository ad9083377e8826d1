"""Files that commands write: whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
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
    try:
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        os.close(handle)
    except OSError as error:
        raise IosfarmError(f"cannot write: {error.strerror}", where=str(out), hint="choose another place") from error
    path = Path(name)
    try:
        yield path
        umask = os.umask(0)
        os.umask(umask)
        path.chmod(0o666 & ~umask)  # a temporary file is its owner's alone
        os.replace(path, out)
    except OSError as error:
        raise IosfarmError(f"cannot write: {error.strerror or error}", where=str(out)) from error
    finally:
        path.unlink(missing_ok=True)


def write_parquet(rows: list[QueryRow], out: Path | None) -> None:
    """Rows of a query as a Parquet file, or on standard output where that is no terminal."""
    from iosfarm.db.frames import arrow_table

    table = arrow_table(rows)
    import pyarrow.parquet

    if out is None:
        if sys.stdout.isatty():
            raise UsageError("Parquet is not for the terminal", hint="name a file with --out")
        pyarrow.parquet.write_table(table, sys.stdout.buffer)
        return
    with writing(out) as path:
        pyarrow.parquet.write_table(table, path)
