"""What keeps a network from being imported."""

from __future__ import annotations

from iosfarm.ir.errors import UsageError


class CannotImport(UsageError):  # noqa: N818 - reads as what happened
    """A network that cannot be imported: what in it, where, and what to change."""


class NoCounterpart(Exception):  # noqa: N818 - a verdict about an operator, never leaves the front ends
    """Our operators cannot say this one; it is kept whole."""
