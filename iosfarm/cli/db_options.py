"""What the options of `iosfarm db` mean: ranges, shapes, ages, names of facts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from iosfarm.ir.errors import UsageError

Url = Annotated[
    str | None,
    typer.Option("--db", metavar="URL", help="File or database URL. [default: $IOSFARM_DB, else the user's own]"),
]
Overlay = Annotated[
    str | None,
    typer.Option(
        "--db-overlay", metavar="URL", help="A database that is only read, beneath it. [default: $IOSFARM_DB_OVERLAY]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = 100 * 366 * 86_400


def parse_range(text: str | None, option: str) -> int | tuple[int | None, int | None] | None:
    """`64`, `64..256`, `64..` or `..256`; both ends are included.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,18})?(\.\.(\d{1,18})?)?", text.strip())
    if match is None or not (match[1] or match[3]):
        raise UsageError(f"{option} {text}: not a number or a range", hint="write 64, 64..256, 64.. or ..256")
    if match[2] is None:
        return int(match[1])
    low, high = (int(end) if end else None for end in (match[1], match[3]))
    if low is not None and high is not None and low > high:
        raise UsageError(f"{option} {text}: upside down", hint=f"write {high}..{low}")
    return low, high


def parse_sizes(text: str | None, option: str, names: str) -> tuple[int, ...] | None:
    """Numbers with an x between them, as many as `names` has letters; for a kernel, one number for both sides.

    Raises:
        UsageError: it is not that.
    """
    if text is None:
        return None
    count = len(names.split("x"))
    sizes = text.lower().replace("×", "x").split("x")
    if not all(re.fullmatch(r"[0-9]{1,9}", size) for size in sizes) or len(sizes) not in (
        {1, 2} if count == 2 else {count}
    ):
        example = "3 or 1x7" if count == 2 else "1x64x56x56"
        raise UsageError(f"{option} {text}: not {names}", hint=f"write {example}")
    numbers = tuple(map(int, sizes))
    return numbers * 2 if len(numbers) < count else numbers


def parse_moment(text: str | None, option: str, now: datetime | None = None) -> datetime | None:
    """An age (`90s`, `2h`, `30d`) as the moment so long ago, or a date or time in ISO 8601, UTC if it has no zone.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    age = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])", text.strip().lower())
    if age is not None:
        seconds = float(age[1]) * _SECONDS[age[2]]
        if seconds <= _LONGEST:
            return (now or datetime.now(UTC)) - timedelta(seconds=seconds)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        hint = "write an age such as 90s, 2h, 30d or 4w, or a date such as 2026-05-31"
        raise UsageError(f"{option} {text}: neither an age nor a date", hint=hint) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_facts(driver: str | None, facts: Sequence[str]) -> dict[str, str]:
    """`NAME=VERSION` for each library or other field of the environment.

    Raises:
        UsageError: no equals sign, or no name.
    """
    found = {} if driver is None else {"driver": driver}
    for text in facts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"--library {text}: not a name and a version", hint="write torch=2.13* or cudnn=9.1")
        found[name.strip()] = value.strip()
    return found
