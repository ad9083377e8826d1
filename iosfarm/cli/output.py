"""What commands print with: one JSON document or a table on stdout, everything else on stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 200  # columns of a table in a file or a pipe, where no terminal says how wide it is
_INDENT, _GAP = 2, 3  # spaces before a table and between its columns


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

    None is shown as "-", a float with four significant digits. Text is shown as it is, without markup. Where the
    table is wider than the terminal (or $COLUMNS), every row becomes lines of `column: value` under its first cell.
    """
    from rich.cells import cell_len

    body = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in body]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if _INDENT + sum(widths) + _GAP * (len(columns) - 1) > shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns:
        lines = _blocks(columns, cells)
    else:
        right = [bool(body) and all(row[i] is None or _is_number(row[i]) for row in body) for i in range(len(columns))]

        def line(texts: Sequence[str]) -> str:
            spaces = [" " * (width - cell_len(text)) for width, text in zip(widths, texts, strict=True)]
            padded = [s + t if r else t + s for s, t, r in zip(spaces, texts, right, strict=True)]
            return (" " * _INDENT + (" " * _GAP).join(padded)).rstrip()

        rule = " " * _INDENT + "─" * (sum(widths) + _GAP * (len(columns) - 1))
        lines = [line(columns), rule, *map(line, cells)]
    print(*([title] if title else []), *lines, sep="\n")


def _blocks(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    lines = []
    for row in cells:
        lines.append(row[0])
        lines += [f"  {column}: {text}".rstrip() for column, text in zip(columns[1:], row[1:], strict=True) if text]
    return lines


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return _digits(value)
    return "".join(character if character.isprintable() else " " for character in str(value))


def _digits(value: float) -> str:
    """Four significant digits, and all those before the point; no exponent for sizes that people read."""
    text = f"{value:.4g}"
    if "e" not in text or not 1e-9 < abs(value) < 1e15:
        return text
    return f"{value:.0f}" if abs(value) >= 1 else format(Decimal(text), "f")
