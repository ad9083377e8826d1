"""A framework's own process: `python -m iosfarm.compare.child FOLDER FRAMEWORK`.

Commands come as JSON lines on stdin, each is answered by one JSON line on what was stdout at the start. What the
framework itself prints goes to stderr.

    {"do": "open"}                 -> {"version": …, "note": …, "outputs": FILE}: prepared, run once, outputs written
    {"do": "time", "repeats": n}   -> {"samples": [seconds, …]}: one execution untimed, then n timed
    {"do": "profile"}              -> {"profile": … or null}
    {"do": "close"}                -> nothing: the process ends

A failure is answered by {"status": …, "error": …}.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

import numpy as np

from iosfarm.compare.adapter import CannotRun, Prepared
from iosfarm.compare.problem import Problem
from iosfarm.compare.registry import FRAMEWORKS, Framework
from iosfarm.compare.rows import Status
from iosfarm.ir.errors import Infeasible, UsageError

WARMUP = 3
"""Executions after the first one and before anything is timed."""
SLOW = 1.0
"""Seconds of an execution from which on warming up changes nothing, and would cost minutes."""


def main(folder: str, name: str) -> None:
    """Answer commands until stdin ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _die_with_parent()
    framework = FRAMEWORKS[name]
    problem = Problem(Path(folder))
    prepared: Prepared | None = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "close":
            break
        try:
            if command["do"] == "open":
                prepared = _open(framework, problem)
                _answer(replies, {"version": prepared.version, "note": prepared.note, **_run(prepared, problem, name)})
            elif prepared is None:
                raise RuntimeError("it was not opened")
            elif command["do"] == "time":
                _answer(replies, {"samples": _time(prepared, int(command["repeats"]))})
            elif command["do"] == "profile":
                found = prepared.profile() if prepared.profile else None
                _answer(replies, {"profile": None if found is None else found.document()})
        except Exception as error:
            _answer(replies, _failure(framework, error))
    os._exit(0)  # some frameworks hang or crash while their threads end


def _open(framework: Framework, problem: Problem) -> Prepared:
    module = importlib.import_module(f"iosfarm.compare.adapters.{framework.adapter}")
    prepared: Prepared = module.prepare(problem, framework.variant or framework.name)
    return prepared


def _run(prepared: Prepared, problem: Problem, name: str) -> dict[str, object]:
    outputs = prepared.outputs(prepared.call())
    _warm_up(prepared, WARMUP)
    path = problem.folder / f"outputs-{name}.npz"
    np.savez(path, **{str(i): np.asarray(output, np.float64) for i, output in enumerate(outputs)})  # type: ignore[arg-type]
    return {"outputs": str(path)}


def _warm_up(prepared: Prepared, times: int) -> None:
    for _ in range(times):
        begin = time.perf_counter()
        prepared.call()
        if time.perf_counter() - begin > SLOW:
            return


def _time(prepared: Prepared, repeats: int) -> list[float]:
    samples: list[float] = []
    for number in range(repeats + 1):
        begin = time.perf_counter()
        prepared.call()
        spent = time.perf_counter() - begin
        # The first one finds the caches as the framework before has left them, which a slow one does not feel.
        if number > 0 or spent > SLOW:
            samples.append(spent)
        if len(samples) == repeats:
            break
    return samples


def _failure(framework: Framework, error: Exception) -> dict[str, object]:
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == framework.package:
        return {"status": str(Status.NOT_INSTALLED), "error": f"{framework.install} in {sys.executable}"}
    if isinstance(error, CannotRun | Infeasible | UsageError):
        return {"status": str(Status.NOT_POSSIBLE), "error": text}
    return {"status": str(Status.CRASHED), "error": f"{type(error).__name__}: {text}"}


def _answer(replies: TextIO, document: dict[str, object]) -> None:
    replies.write(json.dumps(document) + "\n")
    replies.flush()


def _die_with_parent() -> None:
    """A process whose parent was killed must not stay behind, stopped between two turns (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # 1: PR_SET_PDEATHSIG, see prctl(2)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
