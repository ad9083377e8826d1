"""A program with a time of its own: what it printed counts, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile


def run_for(
    command: Sequence[str], seconds: float, *, errors_apart: bool = False, environment: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Exit code, None where it was killed after so many seconds; its output; its errors, if they are kept apart.

    environment: variables beside those of this process.
    """
    with TemporaryFile("w+", errors="replace") as out, TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=errors if errors_apart else subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # The whole group: it may have processes of its own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read())
    return code, texts[0], texts[1]
