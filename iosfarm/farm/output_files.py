"""Files and folders that results are written to: whole or not at all, and tried before anything is measured."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from iosfarm.ir.errors import IosfarmError


class OutputError(IosfarmError):
    """The output folder or a file in it cannot be written."""


def check_folder(folder: Path, option: str = "--out") -> None:
    """Make an output folder and prove that it can be written, before anything is measured. option: that named it.

    Raises:
        OutputError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            "cannot write here: not a folder", where=str(folder), hint=f"choose another folder with {option}"
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write here: {error.strerror or error}",
            where=str(folder),
            hint=f"choose another folder with {option}",
        ) from error


def write_whole(text: str, path: Path, *, what: str, hint: str = "") -> None:
    """Write a file whole or not at all. what, hint: of the error.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {what}: {error.strerror or error}", where=str(path), hint=hint) from error
