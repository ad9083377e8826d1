"""The checks of `iosfarm doctor`: plain functions, each returning one `Check`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

CheckStatus = Literal["ok", "missing", "problem", "unused"]


@dataclass(frozen=True)
class Check:
    """One row of the report.

    detail: what was found. todo: what to do about it, empty where there is nothing to do.
    required: the CPU path needs it, so that anything but `ok` fails the command.
    """

    name: str
    status: CheckStatus
    detail: str
    todo: str = ""
    required: bool = True

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)

    def row(self) -> tuple[str, str, str, str]:
        """For the table."""
        return self.name, self.status, self.detail, self.todo
