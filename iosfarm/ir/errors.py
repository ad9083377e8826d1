"""Errors that a user can cause and mend: one line with what is wrong, where, and what to do."""

from __future__ import annotations


class IosfarmError(Exception):
    """Base of every error that iosfarm raises on purpose.

    `str(error)` is one line: ``where: what; hint``. The command line prints it and exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        line = f"{line}; {self.hint}" if self.hint else line
        return " ".join(line.split())

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel from workers to the driver; keyword-only arguments need help to be unpickled.
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[IosfarmError], what: str, where: str, hint: str) -> IosfarmError:
    return kind(what, where=where, hint=hint)


class UsageError(IosfarmError):
    """Wrong usage: an unknown model, device, dtype or setting, a file that does not validate."""

    exit_code = 2


class GraphError(UsageError):
    """A graph that cannot be: a cycle, an unknown operator, shapes that do not fit, no output."""


class Infeasible(IosfarmError):  # noqa: N818 - a verdict about a stage, in the design's own word
    """This stage can never run on this device: a property of the stage, not a failure of the machine."""


class DeviceLost(IosfarmError):  # noqa: N818 - what has happened, as `Infeasible`
    """The device, or the process's hold on it, is gone (an illegal access, a device that fell off its bus): nothing can
    run there before a new process opens it. A runtime raises it; whoever holds the worker ends the worker's process.
    """
