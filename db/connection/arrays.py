"""Arrays as PostgreSQL writes them: in a fraction of the time that its driver takes for many values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.types import UserDefinedType

_PLAIN = {int, float, datetime}  # whose text needs no marks


class ArrayText(UserDefinedType[str]):
    """An array that is text already. Not a text that is cast: the server would read that twice, to plan and to run."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, of: str) -> None:
        """of: the type of its elements, in SQL."""
        self.of = of

    def get_col_spec(self, **_: Any) -> str:
        return f"{self.of}[]"


def array_text(values: Sequence[Any]) -> str:
    """An array of texts without NUL, numbers, times and None."""
    kinds = set(map(type, values))
    if kinds == {str}:
        text = "\0".join(values).replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
        return f'{{"{text}"}}'
    return f"{{{','.join(map(str if kinds <= _PLAIN else _element, values))}}}"


def _element(value: Any) -> str:
    if isinstance(value, str):
        return array_text([str(value)])[1:-1]
    return "NULL" if value is None else str(value)
