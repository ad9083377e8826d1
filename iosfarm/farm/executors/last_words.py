"""How a process has ended, for people: the signal or the exit code, and the last that it said."""

from __future__ import annotations

import signal

TAIL = 16000
"""Bytes of the end of what a process has said that are worth reading."""

_FRAME = 'File "'  # of tracebacks: what went wrong stands before or after them


def ended(code: int, said: bytes) -> str:
    """`ended by SIGKILL`, or `exited with 1: ` and the last words; code: as subprocess has it, signals negative."""
    words = last_words(said)
    return f"{_how(code)}: {words}" if words else _how(code)


def last_words(said: bytes) -> str:
    """The last line that says something, as one line."""
    lines = [" ".join(line.split()) for line in said[-TAIL:].decode(errors="replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(_FRAME)]
    return told[-1] if told else ""


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:  # of the real-time signals only the first and the last have names
        return f"ended by signal {-code}"
