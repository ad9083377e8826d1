"""Numbers as people read them; a dash for what is not known."""

from __future__ import annotations


def milliseconds(seconds: float | None) -> str:
    """Four digits that count: `1.234 ms`."""
    return "–" if seconds is None else f"{_digits(seconds * 1e3, 4)} ms"


def percent(share: float | None) -> str:
    """`4.2%`, and `4%` where that is all."""
    if share is None:
        return "–"
    return f"{share * 100:.1f}".removesuffix(".0") + "%"


def times(factor: float | None) -> str:
    """`1.89×`."""
    return "–" if factor is None else f"{_digits(factor, 3)}×"


def _digits(value: float, count: int) -> str:
    if value == 0:
        return "0"
    places = count - 1 - int(f"{value:.{count - 1}e}".split("e")[1])
    return f"{value:.{max(0, min(12, places))}f}"
