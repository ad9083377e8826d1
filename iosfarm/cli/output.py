"""What commands print with: one JSON document or a table on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 200  # columns of a table in a file or a pipe, where no terminal says how wide it is


def print_json(document: object) -> None:
    """Write `document` to stdout as the one JSON document of a `--json` run.

    Raises ValueError for NaN and infinity, which are not JSON, before anything is written.
    """
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def stderr_console() -> Console:
    """Where progress and remarks go, so that stdout holds results only."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Write a table to stdout; a column whose cells are all numbers or None is aligned right.

    None is shown as "-", a float with four significant digits. Text is shown as it is, without markup.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    body = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        numeric = bool(body) and all(row[place] is None or _is_number(row[place]) for row in body)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    if title:
        console.print(title, soft_wrap=True)  # as a table's own title it would be folded to the table's width
    console.print(table)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
